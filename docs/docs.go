// Package docs holds what of the documentation the program itself prints.
package docs

import _ "embed"

// The JSON Schemas of what people write, made of the types.
var (
	// EnvironmentSchema is that of environment specs.
	//
	//go:embed environment.schema.json
	EnvironmentSchema []byte
	// ConfigSchema is that of the daemon's configuration.
	//
	//go:embed config.schema.json
	ConfigSchema []byte
)
