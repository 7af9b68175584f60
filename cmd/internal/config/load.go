package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
	"github.com/holdfast-gitops/holdfast/sources"
)

// maxBytes bounds the daemon's file.
const maxBytes = 1 << 20

// Load reads and validates the daemon's file. Its error is sources.Problems:
// all that is wrong, with line and column.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Config{}, sources.Problem{File: path, Message: "there is no such file", Hint: "name the daemon's file with --config, or run one folder with --repo and --path"}
	case err != nil:
		return Config{}, fmt.Errorf("read the daemon's file: %w", err)
	case len(data) > maxBytes:
		return Config{}, sources.Problem{File: path, Message: fmt.Sprintf("is %d bytes, and at most %d are read", len(data), maxBytes)}
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	return decode(path, dir, data)
}

// decode reads the text of a file that lies in dir.
func decode(file, dir string, data []byte) (Config, error) {
	d := newDecoder(dir)
	root := d.parse(file, data)
	if root == nil {
		return Config{}, d.Problems.Err()
	}
	c := defaults()
	d.config(root, &c)
	if len(d.Problems) > 0 {
		return Config{}, yamldoc.Sort(d.Problems)
	}
	return c, nil
}

func defaults() Config {
	return Config{
		Listen: DefaultListen, DataDir: DefaultDataDir(), Installation: DefaultInstallation,
		Log: Log{Level: "info", Format: "auto"}, Ledger: Ledger{MaxDays: DefaultLedgerDays, MaxMiB: DefaultLedgerMiB},
		Server: Server{ChangesPerMinute: DefaultChangesPerMinute},
	}
}

func defaultTarget() Target {
	return Target{Name: DefaultTarget, Concurrency: DefaultConcurrency, Events: true, HoldAnnotation: true}
}

func (d *decoder) config(root *yamldoc.Node, c *Config) {
	d.Mapping(root, "the file",
		d.textField("listen", "", &c.Listen),
		d.boolField("allowNonLoopback", "", &c.AllowNonLoopback),
		d.pathField("dataDir", "", &c.DataDir),
		d.labelField("installation", "", &c.Installation),
		on("log", func(n *yamldoc.Node) { d.log(n, &c.Log) }),
		on("server", func(n *yamldoc.Node) { d.server(n, &c.Server) }),
		on("ledger", func(n *yamldoc.Node) { d.ledger(n, &c.Ledger) }),
		on("targets", func(n *yamldoc.Node) { c.Targets = d.targets(n) }),
		on("sources", func(n *yamldoc.Node) { c.Sources = d.sources(n) }),
		on("charts", func(n *yamldoc.Node) { d.charts(n, &c.Charts) }),
		on("decryption", func(n *yamldoc.Node) { d.decryption(n, &c.Decryption) }),
		on("webhooks", func(n *yamldoc.Node) { c.Webhooks = d.webhooks(n) }),
		d.pathField("resyncFile", "", &c.ResyncFile),
		on("verification", func(n *yamldoc.Node) { d.verification(n, &c.Verification) }),
		on("audit", func(n *yamldoc.Node) { d.audit(n, &c.Audit) }),
		on("tracing", func(n *yamldoc.Node) { d.tracing(n, &c.Tracing) }),
		on("notifications", func(n *yamldoc.Node) { d.notifications(n, &c.Notifications) }),
	)
	if len(c.Targets) == 0 {
		c.Targets = []Target{defaultTarget()}
	}
	if len(c.Sources) == 0 && len(d.Problems) == 0 {
		d.Fail(root, "names no source", "add one under sources: with a name and a url")
	}
	d.checkListen(c)
	d.checkKubernetes(root.Get("server").Get("kubernetes"), c)
	for i := range c.Sources {
		d.checkGrants(c, &c.Sources[i])
		d.checkShared(c, &c.Sources[i])
		d.checkKeys(c, &c.Sources[i])
	}
}

func (d *decoder) log(n *yamldoc.Node, l *Log) {
	d.Mapping(n, "log",
		d.wordField("level", "log.", &l.Level, logLevels...),
		d.wordField("format", "log.", &l.Format, logFormats...),
	)
}

func (d *decoder) ledger(n *yamldoc.Node, l *Ledger) {
	d.Mapping(n, "ledger",
		d.countField("maxDays", "ledger.", maxLedgerDays, &l.MaxDays),
		d.countField("maxMiB", "ledger.", maxLedgerMiB, &l.MaxMiB),
	)
}

func (d *decoder) hosts(n *yamldoc.Node) []string {
	var out []string
	for i, e := range d.List(n, "server.hosts") {
		var host string
		if !d.Text(e, fmt.Sprintf("server.hosts[%d]", i), &host) {
			continue
		}
		if strings.ContainsAny(host, ":/ ") {
			d.Fail(e, fmt.Sprintf("server.hosts[%d] %q is not a host name", i, host), "leave out the scheme, the port and the path")
			continue
		}
		out = append(out, host)
	}
	return out
}

func (d *decoder) targets(n *yamldoc.Node) []Target {
	entries := d.List(n, "targets")
	// The whole length at once: positions are remembered by address.
	out := make([]Target, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		out[i] = defaultTarget()
		t, what := &out[i], fmt.Sprintf("targets[%d]", i)
		d.Mapping(e, what,
			d.labelField("name", what+".", &t.Name),
			d.pathField("directory", what+".", &t.Directory),
			d.pathField("kubeconfig", what+".", &t.Kubeconfig),
			d.textField("context", what+".", &t.Context),
			d.labelField("namespace", what+".", &t.Namespace),
			d.labelField("stateNamespace", what+".", &t.StateNamespace),
			d.boolField("allowExec", what+".", &t.AllowExec),
			d.boolField("events", what+".", &t.Events),
			d.boolField("holdAnnotation", what+".", &t.HoldAnnotation),
			d.countField("concurrency", what+".", maxConcurrency, &t.Concurrency),
		)
		d.unique(e, &t.Name, what, seen)
		d.checkDirectory(e, t, what)
	}
	return out
}

func (d *decoder) sources(n *yamldoc.Node) []Source {
	entries := d.List(n, "sources")
	out := make([]Source, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		s, what := &out[i], fmt.Sprintf("sources[%d]", i)
		s.Interval, s.Timeout, s.Environments = DefaultInterval, DefaultTimeout, DefaultEnvironments
		fields := []yamldoc.Field{
			d.labelField("name", what+".", &s.Name),
			d.textField("url", what+".", &s.URL),
			d.pathField("dir", what+".", &s.Dir),
			d.textField("ref", what+".", &s.Ref),
			d.textField("semver", what+".", &s.Semver),
			d.pathField("caFile", what+".", &s.CAFile),
			d.boolField("insecure", what+".", &s.Insecure),
			d.durationField("interval", what+".", minInterval, &s.Interval),
			d.durationField("timeout", what+".", minInterval, &s.Timeout),
			d.textField("environments", what+".", &s.Environments),
			on("credentials", func(n *yamldoc.Node) { d.credentials(n, what+".credentials", &s.Credentials) }),
			on("forge", func(n *yamldoc.Node) { d.forge(n, what+".forge", s) }),
			on("push", func(n *yamldoc.Node) { d.push(n, what+".push", s) }),
			on("sharedWith", func(n *yamldoc.Node) { s.SharedWith = d.sharedWith(n, what+".sharedWith") }),
			on("grants", func(n *yamldoc.Node) { s.Grants = d.grants(n, what+".grants") }),
			on("keys", func(n *yamldoc.Node) { s.Keys = d.texts(n, what+".keys") }),
		}
		d.Mapping(e, what, slices.Concat(fields, d.gitFields(what, s), d.following(what, &s.Following))...)
		d.unique(e, &s.Name, what, seen)
		d.checkSource(e, s, what)
		d.checkFollowing(e, s, what)
		d.checkForge(s, what)
		d.checkPush(s, what)
	}
	return out
}

func (d *decoder) credentials(n *yamldoc.Node, what string, c *Credentials) {
	before := len(d.Problems)
	d.Mapping(n, what,
		d.textField("username", what+".", &c.Username),
		d.pathField("passwordFile", what+".", &c.PasswordFile),
		d.pathField("tokenFile", what+".", &c.TokenFile),
		d.pathField("bearerTokenFile", what+".", &c.BearerTokenFile),
		on("githubApp", func(n *yamldoc.Node) { d.gitHubApp(n, what+".githubApp", &c.GitHubApp) }),
		d.pathField("dockerConfigFile", what+".", &c.DockerConfigFile),
	)
	if len(d.Problems) > before {
		return
	}
	if c.DockerConfigFile != "" {
		if *c != (Credentials{DockerConfigFile: c.DockerConfigFile}) {
			d.Fail(n, what+" has a dockerConfigFile and others beside it", "the file holds username and password")
		}
		return
	}
	ways := 0
	for _, given := range []bool{c.PasswordFile != "", c.TokenFile != "", c.BearerTokenFile != "", c.GitHubApp != GitHubApp{}} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		d.Fail(n, what+" needs one of passwordFile, tokenFile, bearerTokenFile and githubApp", "a username goes with a passwordFile")
	case c.Username != "" && c.PasswordFile == "" && c.TokenFile == "":
		d.Fail(n, what+" has a username that nothing is sent with", "a username goes with a passwordFile")
	}
}

func (d *decoder) grants(n *yamldoc.Node, what string) []Grant {
	entries := d.List(n, what)
	out := make([]Grant, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		g, what := &out[i], fmt.Sprintf("%s[%d]", what, i)
		g.Target = DefaultTarget
		before := len(d.Problems)
		d.Mapping(e, what,
			d.textField("target", what+".", &g.Target),
			on("namespaces", func(n *yamldoc.Node) { g.Namespaces = d.namespaces(n, what+".namespaces") }),
			d.boolField("cluster", what+".", &g.Cluster),
			on("serviceAccounts", func(n *yamldoc.Node) { g.ServiceAccounts = d.serviceAccounts(n, what+".serviceAccounts") }),
		)
		d.At[g] = e
		if first, twice := seen[g.Target]; twice {
			d.Fail(e, fmt.Sprintf("%s is for target %q, which has a grant at line %d", what, g.Target, first), "put both into one")
		}
		seen[g.Target] = e.Line
		if len(g.Namespaces) == 0 && !g.Cluster && len(d.Problems) == before {
			d.Fail(e, what+" grants nothing", `write namespaces: ["*"], or name them, or cluster: true`)
		}
	}
	return out
}

// serviceAccount is "namespace/name"; either may be "*".
var serviceAccount = regexp.MustCompile(`^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)/(\*|[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)$`)

func (d *decoder) serviceAccounts(n *yamldoc.Node, what string) []string {
	var out []string
	for i, e := range d.List(n, what) {
		what := fmt.Sprintf("%s[%d]", what, i)
		var name string
		switch {
		case !d.Text(e, what, &name):
		case !serviceAccount.MatchString(name):
			d.Fail(e, fmt.Sprintf("%s %q is no service account", what, name), `write "namespace/name"; "*" stands for any namespace or any name`)
		default:
			out = append(out, name)
		}
	}
	return out
}

func (d *decoder) namespaces(n *yamldoc.Node, what string) []string {
	var out []string
	for i, e := range d.List(n, what) {
		what := fmt.Sprintf("%s[%d]", what, i)
		var name string
		switch {
		case !d.Text(e, what, &name):
		case name != "*" && !label.MatchString(name):
			d.Fail(e, fmt.Sprintf("%s %q is not the name of a namespace", what, name), `"*" means all of them; other patterns are not known`)
		default:
			out = append(out, name)
		}
	}
	return out
}
