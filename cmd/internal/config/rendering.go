package config

import (
	"fmt"
	"net/url"
	"slices"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources/manifest"
)

// Charts says from where Helm charts may be fetched. Without a registry, only
// charts that lie in a source are rendered.
type Charts struct {
	Registries []ChartRegistry `json:"registries,omitempty"`
}

// ChartRegistry is the beginning of addresses from which charts may be fetched.
type ChartRegistry struct {
	// URL is oci://host/path, https://host/path or http://host/path.
	URL string `json:"url"`
	// Username and PasswordFile are sent to that address.
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	// Insecure talks http to an OCI registry.
	Insecure bool `json:"insecure,omitempty"`
}

// Decryption says with what encrypted files are read.
type Decryption struct {
	SOPS SOPS `json:"sops,omitzero"`
}

// SOPS are the keys for files encrypted with SOPS.
type SOPS struct {
	// Keys are granted to sources by name.
	Keys []SOPSKey `json:"keys,omitempty"`
	// Program is the sops program, for keys with services. It is run for nothing
	// else.
	Program string `json:"program,omitempty"`
}

// SOPSKey is one of: age identities, an OpenPGP key, or keys of cloud services.
type SOPSKey struct {
	Name    string `json:"name"`
	AgeFile string `json:"ageFile,omitempty"`
	PGPFile string `json:"pgpFile,omitempty"`
	// Services are the keys that an encrypted file may name: a key's id or
	// address, or the beginning of some with a * at the end.
	Services []string `json:"services,omitempty"`
	// Environment are the variables that the program gets, by name.
	Environment []string `json:"environment,omitempty"`
}

func (d *decoder) charts(n *yamldoc.Node, c *Charts) {
	d.Mapping(n, "charts", on("registries", func(n *yamldoc.Node) {
		entries := d.List(n, "charts.registries")
		c.Registries = make([]ChartRegistry, len(entries))
		for i, e := range entries {
			r, what := &c.Registries[i], fmt.Sprintf("charts.registries[%d]", i)
			d.Mapping(e, what,
				d.textField("url", what+".", &r.URL),
				d.textField("username", what+".", &r.Username),
				d.pathField("passwordFile", what+".", &r.PasswordFile),
				d.boolField("insecure", what+".", &r.Insecure),
			)
			d.checkRegistry(e, r, what)
		}
	}))
}

func (d *decoder) checkRegistry(n *yamldoc.Node, r *ChartRegistry, what string) {
	if n.Kind != yamldoc.Mapping {
		return
	}
	u, err := url.Parse(r.URL)
	switch {
	case r.URL == "" && n.Get("url") == nil:
		d.Fail(n, what+" has no url", "such as oci://ghcr.io/org/charts")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || !slices.Contains([]string{"oci", "https", "http"}, u.Scheme):
		d.Fail(n, what+".url must be oci://, https:// or http:// with a host, without credentials or a query", "credentials go into username and passwordFile")
	case (r.Username == "") != (r.PasswordFile == ""):
		d.Fail(n, what+" needs both username and passwordFile, or neither", "")
	case r.Insecure && u.Scheme != "oci":
		d.Fail(n, what+".insecure is for oci:// only", "write http:// if that is meant")
	}
}

func (d *decoder) decryption(n *yamldoc.Node, c *Decryption) {
	d.Mapping(n, "decryption", on("sops", func(n *yamldoc.Node) {
		d.Mapping(n, "decryption.sops",
			d.pathField("program", "decryption.sops.", &c.SOPS.Program),
			on("keys", func(n *yamldoc.Node) { c.SOPS.Keys = d.sopsKeys(n) }),
		)
		for i, k := range c.SOPS.Keys {
			if len(k.Services) > 0 && c.SOPS.Program == "" {
				d.Fail(n, fmt.Sprintf("decryption.sops.keys[%d] names services, and decryption.sops.program is not set", i), "name the file of the sops program")
			}
		}
	}))
}

func (d *decoder) sopsKeys(n *yamldoc.Node) []SOPSKey {
	entries := d.List(n, "decryption.sops.keys")
	out := make([]SOPSKey, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		k, what := &out[i], fmt.Sprintf("decryption.sops.keys[%d]", i)
		before := len(d.Problems)
		d.Mapping(e, what,
			d.labelField("name", what+".", &k.Name),
			d.pathField("ageFile", what+".", &k.AgeFile),
			d.pathField("pgpFile", what+".", &k.PGPFile),
			on("services", func(n *yamldoc.Node) { k.Services = d.texts(n, what+".services") }),
			on("environment", func(n *yamldoc.Node) { k.Environment = d.texts(n, what+".environment") }),
		)
		d.unique(e, &k.Name, what, seen)
		if len(d.Problems) > before {
			continue
		}
		kinds := 0
		for _, is := range []bool{k.AgeFile != "", k.PGPFile != "", len(k.Services) > 0} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			d.Fail(e, what+" needs one of ageFile, pgpFile and services", "")
		} else if len(k.Environment) > 0 && len(k.Services) == 0 {
			d.Fail(e, what+".environment goes with services", "no program is run for the others")
		}
	}
	return out
}

func (d *decoder) texts(n *yamldoc.Node, what string) []string {
	entries := d.List(n, what)
	out := make([]string, len(entries))
	for i, e := range entries {
		d.Text(e, fmt.Sprintf("%s[%d]", what, i), &out[i])
	}
	return out
}

// checkKeys checks that a source is granted keys that there are.
func (d *decoder) checkKeys(c *Config, s *Source) {
	var known []string
	for _, k := range c.Decryption.SOPS.Keys {
		known = append(known, k.Name)
	}
	for i := range s.Keys {
		if slices.Contains(known, s.Keys[i]) || d.At[&s.Keys[i]] == nil {
			continue
		}
		hint := "keys are named under decryption.sops.keys"
		if best := manifest.Closest(s.Keys[i], known); best != "" {
			hint = "did you mean " + best + "?"
		}
		d.Fail(d.At[&s.Keys[i]], fmt.Sprintf("source %q is granted the key %q, which there is not", s.Name, s.Keys[i]), hint)
	}
}

// Key is the key of a name.
func (s SOPS) Key(name string) (SOPSKey, bool) {
	for _, k := range s.Keys {
		if k.Name == name {
			return k, true
		}
	}
	return SOPSKey{}, false
}
