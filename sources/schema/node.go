package schema

import (
	"bytes"
	"encoding/json"
)

// node is one schema, with the keywords that are looked at.
type node struct {
	Ref         string           `json:"$ref,omitempty"`
	Type        string           `json:"type,omitempty"`
	Format      string           `json:"format,omitempty"`
	Properties  map[string]*node `json:"properties,omitempty"`
	Additional  *additional      `json:"additionalProperties,omitempty"`
	Items       *node            `json:"items,omitempty"`
	Required    []string         `json:"required,omitempty"`
	Enum        []any            `json:"enum,omitempty"`
	AllOf       []*node          `json:"allOf,omitempty"`
	AnyOf       []*node          `json:"anyOf,omitempty"`
	OneOf       []*node          `json:"oneOf,omitempty"`
	Not         *node            `json:"not,omitempty"`
	IntOrString bool             `json:"x-kubernetes-int-or-string,omitempty"`
	Preserve    bool             `json:"x-kubernetes-preserve-unknown-fields,omitempty"`
	Embedded    bool             `json:"x-kubernetes-embedded-resource,omitempty"`
	Default     json.RawMessage  `json:"default,omitempty"`

	Pattern          string   `json:"pattern,omitempty"`
	Minimum          *float64 `json:"minimum,omitempty"`
	Maximum          *float64 `json:"maximum,omitempty"`
	ExclusiveMinimum bool     `json:"exclusiveMinimum,omitempty"`
	ExclusiveMaximum bool     `json:"exclusiveMaximum,omitempty"`
	MinLength        *int     `json:"minLength,omitempty"`
	MaxLength        *int     `json:"maxLength,omitempty"`
	MinItems         *int     `json:"minItems,omitempty"`
	MaxItems         *int     `json:"maxItems,omitempty"`
	MinProperties    *int     `json:"minProperties,omitempty"`
	MaxProperties    *int     `json:"maxProperties,omitempty"`
}

// additional is a schema for the values of a map, or says whether there may be
// any.
type additional struct {
	allowed bool
	node    *node
}

// UnmarshalJSON takes a boolean or a schema.
func (a *additional) UnmarshalJSON(data []byte) error {
	switch string(bytes.TrimSpace(data)) {
	case "true", "false":
		a.allowed = string(bytes.TrimSpace(data)) == "true"
		return nil
	}
	a.allowed = true
	return json.Unmarshal(data, &a.node)
}

// MarshalJSON writes what UnmarshalJSON takes.
func (a *additional) MarshalJSON() ([]byte, error) {
	if a.node == nil {
		return json.Marshal(a.allowed)
	}
	return json.Marshal(a.node)
}
