// Package substitute replaces ${name} by the values of parameters.
//
// It works on scalars after parsing, never on text before it, so that no value
// can add structure, and it is strict: a reference to what is not declared is a
// problem with its place. $${name} stands for the text ${name}.
package substitute

// Type is the type of a parameter.
type Type string

// The types. A number may have a fraction, an int may not.
const (
	String Type = "string"
	Int    Type = "int"
	Number Type = "number"
	Bool   Type = "bool"
	List   Type = "list"
)

// Words are the values that a file may hold.
func (Type) Words() []string {
	return []string{string(String), string(Int), string(Number), string(Bool), string(List)}
}

// Values are the values of parameters by name: string, int64, float64, bool, or a
// list ([]any) of those.
type Values map[string]any
