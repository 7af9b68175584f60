package oci

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// maxCredentials bounds a file that holds credentials.
const maxCredentials = 1 << 20

// credentials are what one operation may send. They are read anew for each.
type credentials struct {
	username, password string
	// token is an identity token, which is exchanged for others.
	token string
}

func (c credentials) empty() bool { return c == credentials{} }

func (c credentials) forLibrary() auth.Credential {
	return auth.Credential{Username: c.username, Password: c.password, RefreshToken: c.token}
}

// credentials reads what the next operation may send.
func (a *Artifact) credentials() (credentials, error) {
	o := a.opts
	if o.DockerConfigFile != "" {
		text, err := readBounded(o.DockerConfigFile)
		if err != nil {
			return credentials{}, a.unreadable("docker configuration", err)
		}
		c, err := dockerConfig(text, a.ref.Registry, a.ref.Host(), a.ref.Repository)
		if err != nil {
			return credentials{}, a.unreadable("docker configuration", fmt.Errorf("%s: %w", o.DockerConfigFile, err))
		}
		return c, nil
	}
	c := credentials{username: o.Username, password: o.Password}
	if o.PasswordFile != "" {
		text, err := readBounded(o.PasswordFile)
		if err != nil {
			return credentials{}, a.unreadable("password", err)
		}
		c.password = strings.TrimRight(string(text), "\r\n")
	}
	if c.username == "" && c.password != "" {
		c.username = "holdfast" // registries that take a token accept any name but none
	}
	return c, nil
}

func (a *Artifact) unreadable(what string, err error) error {
	return fail(ErrAuth, fmt.Sprintf("read the %s of oci source %q: %v", what, a.opts.Name, err), "")
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCredentials {
		return nil, fmt.Errorf("%s has %d bytes, more than any file of credentials", path, info.Size())
	}
	return os.ReadFile(path)
}

// dockerConfig finds the credentials for a registry in a docker configuration.
// The longest key that the repository begins with wins, so that a registry may
// have several accounts, as with Kubernetes' own pull secrets.
func dockerConfig(text []byte, registry, host, repository string) (credentials, error) {
	var config struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
		} `json:"auths"`
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if json.Unmarshal(text, &config) != nil { // its text would quote the file
		return credentials{}, fmt.Errorf("it is not JSON of the form {\"auths\": {…}}")
	}
	best, found := "", false
	for key := range config.Auths {
		if at := dockerKey(key); covers(at, registry, host, repository) && (!found || len(at) > len(dockerKey(best))) {
			best, found = key, true
		}
	}
	if !found {
		if config.CredsStore != "" || len(config.CredHelpers) > 0 {
			return credentials{}, fmt.Errorf("it names a credential helper, which is a program and is not run (write the credentials into auths)")
		}
		return credentials{}, nil
	}
	entry := config.Auths[best]
	c := credentials{username: entry.Username, password: entry.Password, token: entry.IdentityToken}
	if entry.Auth != "" {
		decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(entry.Auth))
		username, password, ok := strings.Cut(string(decoded), ":")
		if err != nil || !ok {
			return credentials{}, fmt.Errorf("the auth of %s is not base64 of username:password", printable(best, 100))
		}
		c.username, c.password = username, strings.TrimRight(password, "\x00")
	}
	return c, nil
}

// dockerKey drops what is written around the host and path in a key.
func dockerKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	for _, suffix := range []string{"/", "/v1", "/v2"} {
		key = strings.TrimSuffix(key, suffix)
	}
	if key == "index.docker.io" {
		return "docker.io"
	}
	return key
}

func covers(key, registry, host, repository string) bool {
	for _, name := range []string{registry, host} {
		if full := name + "/" + repository; key == name || key == full || strings.HasPrefix(full, key+"/") {
			return key != ""
		}
	}
	return false
}
