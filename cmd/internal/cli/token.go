package cli

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// newToken is a token with what the daemon has to know of it.
type newToken struct {
	Token  string `json:"token"`
	SHA256 string `json:"sha256"`
}

func (a *app) tokenCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "token", Short: "Make a token for the API, and the hash that the daemon knows it by",
		Long: `Make a random token and print it. Its SHA-256 goes into --sha256-file, which is what
server.tokens in the daemon's configuration names: whoever reads that file cannot
call with it. The token itself is kept nowhere.
` + exitHelp,
		Example: `  holdfast token --sha256-file /etc/holdfast/anna.sha256
  holdfast token -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkFormat(); err != nil {
				return err
			}
			// 26 letters of base32 are 130 bits.
			t := newToken{Token: "hf_" + rand.Text()}
			sum := sha256.Sum256([]byte(t.Token))
			t.SHA256 = hex.EncodeToString(sum[:])
			if file == "" && a.format == "table" {
				return invalid(usage{"the token's hash goes nowhere", "say where with --sha256-file, or ask for both with -o json"})
			}
			if file != "" {
				if err := writeNew(file, t.SHA256+"\n"); err != nil {
					return failed(err)
				}
			}
			return a.print(t, func(w io.Writer) { fmt.Fprintln(w, t.Token) })
		},
	}
	c.Flags().StringVar(&file, "sha256-file", "", "new file for the hash")
	a.addFormat(c)
	return c
}

// writeNew writes a file that must not be there: a token in use is not replaced by
// mistake.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the hash: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
