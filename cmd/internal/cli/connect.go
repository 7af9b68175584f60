package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
)

// connectHelp says how the daemon is found.
const connectHelp = `
The daemon is found by --server, else HOLDFAST_SERVER, else by the socket
holdfast.sock in --data-dir, HOLDFAST_DATA_DIR or the default data directory.
The token for calls over TCP that change something comes from --token-file, else
from HOLDFAST_TOKEN.
`

// maxToken bounds a token's file.
const maxToken = 4 << 10

// addConnect adds the flags that say where the daemon is.
func (a *app) addConnect(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.server, "server", "", "address of the daemon: http://host:port or unix:///path")
	f.StringVar(&a.tokenFile, "token-file", "", "file of the token for calls over TCP that change something")
	f.StringVar(&a.dataDir, "data-dir", "", "data directory of the daemon, which holds its socket")
}

// connect makes the client. It calls nobody yet.
func (a *app) connect() (*api.Client, error) {
	token := strings.TrimSpace(a.env("HOLDFAST_TOKEN"))
	if a.tokenFile != "" {
		var err error
		if token, err = readToken(a.tokenFile); err != nil {
			return nil, invalid(err)
		}
	}
	server := a.server
	if server == "" && a.dataDir == "" { // what is said on the command line comes first
		server = a.env("HOLDFAST_SERVER")
	}
	dir, err := filepath.Abs(cmp.Or(a.dataDir, config.DefaultDataDir()))
	if err != nil {
		return nil, failed(fmt.Errorf("find the data directory: %w", err))
	}
	client, err := api.NewClient(api.ClientOptions{
		Server: server, Socket: filepath.Join(dir, config.SocketName), Token: token,
		UserAgent: "holdfast/" + build().Version,
	})
	if err != nil {
		return nil, invalid(err)
	}
	return client, nil
}

func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", usage{fmt.Sprintf("%s holds no token", file), "it should be one line"}
	}
	return token, nil
}
