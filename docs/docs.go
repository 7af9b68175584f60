// Package docs holds what of the documentation the program itself prints.
package docs

import _ "embed"

// What people write and what the daemon answers, made of the types.
var (
	// EnvironmentSchema is that of environment specs.
	//
	//go:embed environment.schema.json
	EnvironmentSchema []byte
	// ConfigSchema is that of the daemon's configuration.
	//
	//go:embed config.schema.json
	ConfigSchema []byte
	// OpenAPI describes the API of the daemon.
	//
	//go:embed openapi.json
	OpenAPI []byte
)
