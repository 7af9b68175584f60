// Package celexpr compiles and evaluates the CEL expressions that people may
// write: into a spec, which is checked when it is read, and evaluated by the
// engine later. Expressions come from strangers: their size, their cost and their
// time are bounded.
package celexpr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
)

// maxBytes bounds an expression, maxCost what one evaluation may do.
const (
	maxBytes = 8 << 10
	maxCost  = 200_000
)

// Env says what an expression sees and what it gives.
type Env struct {
	vars   []string
	result *cel.Type

	once sync.Once
	env  *cel.Env
	err  error
}

// The environments of the expressions in a spec.
var (
	// Health sees the live object as self, and is true or false.
	Health = &Env{vars: []string{"self"}, result: cel.BoolType}
	// Message sees the live object as self, and is text.
	Message = &Env{vars: []string{"self"}, result: cel.StringType}
	// Severity sees of a drift object (a map of group, kind, namespace, name),
	// path, class, manager, environment and labels (the environment's), and is
	// true or false.
	Severity = &Env{vars: []string{"object", "path", "class", "manager", "environment", "labels"}, result: cel.BoolType}
)

func (e *Env) open() (*cel.Env, error) {
	e.once.Do(func() {
		options := []cel.EnvOption{
			cel.ParserRecursionLimit(50), cel.ParserExpressionSizeLimit(maxBytes), cel.DefaultUTCTimeZone(true),
			cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(ext.StringsVersion(2)),
		}
		for _, v := range e.vars {
			options = append(options, cel.Variable(v, cel.DynType))
		}
		e.env, e.err = cel.NewEnv(options...)
	})
	return e.env, e.err
}

// Program is a compiled expression. It is safe for concurrent use.
type Program struct{ program cel.Program }

// Compile checks an expression. Its error says what is wrong and, if that can be
// told, at which line and column of the expression.
func (e *Env) Compile(text string) (*Program, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("is %d bytes, and at most %d are allowed", len(text), maxBytes)
	}
	env, err := e.open()
	if err != nil {
		return nil, fmt.Errorf("open the CEL environment: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues != nil && issues.Err() != nil {
		return nil, told(issues)
	}
	if out := ast.OutputType(); !out.IsExactType(e.result) && !out.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("gives %s, and must give %s", out, e.result)
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, fmt.Errorf("cannot be compiled: %w", err)
	}
	return &Program{program: program}, nil
}

// told is the first issue in one line.
func told(issues *cel.Issues) error {
	first := issues.Errors()[0]
	message, _, _ := strings.Cut(first.Message, "\n")
	message = strings.ReplaceAll(message, " (in container '')", "")
	message = strings.TrimPrefix(message, "Syntax error: ")
	return fmt.Errorf("%s, at %d:%d of the expression", message, first.Location.Line(), first.Location.Column()+1)
}

// Bool evaluates an expression of an Env that is true or false.
func (p *Program) Bool(ctx context.Context, vars map[string]any) (bool, error) {
	v, err := p.eval(ctx, vars)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("gave a %T, and must give true or false", v)
	}
	return b, nil
}

// Text evaluates an expression of an Env that is text.
func (p *Program) Text(ctx context.Context, vars map[string]any) (string, error) {
	v, err := p.eval(ctx, vars)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("gave a %T, and must give text", v)
	}
	return s, nil
}

func (p *Program) eval(ctx context.Context, vars map[string]any) (any, error) {
	out, _, err := p.program.ContextEval(ctx, vars)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	if types.IsError(out) || types.IsUnknown(out) {
		return nil, errors.New("evaluate: no value")
	}
	return out.Value(), nil
}
