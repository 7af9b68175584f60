package cli

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/docs"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema [environment|config]", Short: "Print the JSON Schema of what is written",
		Long: `Print the JSON Schema of environment specs, or of the daemon's configuration,
for editors and other tools. An editor with the YAML language server takes it
from a comment at the head of a file:

  # yaml-language-server: $schema=environment.schema.json
`,
		Example:   "  holdfast schema > environment.schema.json\n  holdfast schema config",
		ValidArgs: []string{"environment", "config"},
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			text := docs.EnvironmentSchema
			if len(args) > 0 && args[0] == "config" {
				text = docs.ConfigSchema
			}
			_, err := a.stdout.Write(text)
			return err
		},
	}
}
