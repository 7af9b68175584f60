package config

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-gitops/holdfast/sources/environment"
)

// The defaults of what a file may leave out.
const (
	DefaultListen       = "127.0.0.1:8080"
	DefaultInstallation = "holdfast"
	DefaultTarget       = "default"
	DefaultConcurrency  = 20
	DefaultInterval     = 30 * time.Second
	DefaultTimeout      = time.Minute
	DefaultEnvironments = "environments"
	DefaultLedgerDays   = 90
	DefaultLedgerMiB    = 256
)

// minInterval bounds how often a source's remote is asked.
const minInterval = time.Second

// maxLedgerDays and maxLedgerMiB bound what may be asked for: a hundred years, a
// tebibyte.
const (
	maxLedgerDays = 36_500
	maxLedgerMiB  = 1 << 20
)

// maxConcurrency bounds the requests that a target gets at a time.
const maxConcurrency = 500

// Config is all that the daemon is told. It is a value: nobody changes one after
// it was loaded; a reload makes another.
type Config struct {
	// Listen is the address for HTTP.
	Listen string `json:"listen"`
	// AllowNonLoopback says that Listen is meant to be reached from elsewhere.
	AllowNonLoopback bool `json:"allowNonLoopback,omitempty"`
	// DataDir holds what can be made again, and the socket.
	DataDir string `json:"dataDir"`
	// Installation names which installation owns an environment.
	Installation string   `json:"installation"`
	Log          Log      `json:"log"`
	Server       Server   `json:"server,omitzero"`
	Ledger       Ledger   `json:"ledger"`
	Targets      []Target `json:"targets"`
	Sources      []Source `json:"sources"`
	// Charts and Decryption are what rendering may reach beyond a source.
	Charts     Charts     `json:"charts,omitzero"`
	Decryption Decryption `json:"decryption,omitzero"`
	// Webhooks are receivers of pushes.
	Webhooks []Webhook `json:"webhooks,omitempty"`
	// ResyncFile, when not empty, is a file: whoever touches it asks for a resync.
	ResyncFile    string        `json:"resyncFile,omitempty"`
	Notifications Notifications `json:"notifications,omitzero"`
	// Verification is the slow look at everything, in the background.
	Verification Verification `json:"verification,omitzero"`
	// Tracing follows runs from their cause to their effect.
	Tracing Tracing `json:"tracing,omitzero"`
	// Audit takes the audit events of API servers.
	Audit Audit `json:"audit,omitzero"`
}

// Log says how much is logged, and in which form.
type Log struct {
	// Level is trace, debug, info, warn or error.
	Level string `json:"level"`
	// Format is json, console, or auto: console on a terminal.
	Format string `json:"format"`
}

// Ledger bounds what is kept on record.
type Ledger struct {
	// MaxDays is how old a record gets.
	MaxDays int `json:"maxDays"`
	// MaxMiB is how large the file gets.
	MaxMiB int `json:"maxMiB"`
}

// Target is a cluster, or a directory of this host, that environments are applied
// to.
type Target struct {
	Name string `json:"name"`
	// Directory, when not empty, is where files are kept; there is no cluster then.
	Directory string `json:"directory,omitempty"`
	// Kubeconfig is the path of one; empty means in-cluster where that is
	// possible, else $KUBECONFIG or ~/.kube/config.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// AllowExec lets the kubeconfig run a program for its credentials.
	AllowExec bool `json:"allowExec,omitempty"`
	// Context chooses one in the kubeconfig; empty is the current one.
	Context string `json:"context,omitempty"`
	// Namespace is where objects go that name none; empty is the context's. In a
	// directory it is a folder.
	Namespace string `json:"namespace,omitempty"`
	// StateNamespace is where the environments' parent objects live; empty is
	// holdfast-system, or where the grants do not reach that, the context's.
	StateNamespace string `json:"stateNamespace,omitempty"`
	// Events: an object that was put back gets an Event that says so.
	Events bool `json:"events"`
	// HoldAnnotation: the annotation holdfast.dev/hold-until holds.
	HoldAnnotation bool `json:"holdAnnotation"`
	// Concurrency bounds the requests at a time.
	Concurrency int `json:"concurrency"`
}

// Source is a git repository at a ref, an OCI artifact (its URL begins with
// oci://), or a local directory: one of URL and Dir is set.
type Source struct {
	Name string `json:"name"`
	URL  string `json:"url,omitempty"`
	Dir  string `json:"dir,omitempty"`
	// Ref is a branch, a tag or a commit; empty is the default branch. The keys
	// branch, tag and commit of the file become full names here. Of an OCI
	// artifact it is a tag or a digest; empty is latest.
	Ref string `json:"ref,omitempty"`
	// Semver, instead of Ref, is a range of versions: the highest tag in it is
	// followed.
	Semver string `json:"semver,omitempty"`
	// CAFile holds certificates to trust beside the system's.
	CAFile string `json:"caFile,omitempty"`
	// CertFile and KeyFile are the certificate that is shown to a git server.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	SSH      SSH    `json:"ssh,omitzero"`
	Proxy    Proxy  `json:"proxy,omitzero"`
	// Insecure talks http to the registry of an OCI artifact.
	Insecure bool `json:"insecure,omitempty"`
	// Interval is how often the source is looked at, Timeout how long one look
	// may take.
	Interval time.Duration `json:"interval"`
	Timeout  time.Duration `json:"timeout"`
	// Environments is the folder, or the glob, of the specs in the source.
	Environments string `json:"environments,omitempty"`
	// Implicit, when not nil, is the source's only environment, and no specs are
	// looked for.
	Implicit    *environment.Spec `json:"implicit,omitempty"`
	Credentials Credentials       `json:"credentials,omitzero"`
	// Forge is the host that the repository lives on.
	Forge Forge `json:"forge,omitzero"`
	// Push says which branches may be pushed there.
	Push Push `json:"push,omitzero"`
	Following
	// SharedWith names the sources whose environments may take files from this
	// one; "*" is all.
	SharedWith []string `json:"sharedWith,omitempty"`
	// Grants are what the source's environments may reach; without one, nothing.
	Grants []Grant `json:"grants,omitempty"`
	// Keys are the names of keys that its environments may decrypt with.
	Keys []string `json:"keys,omitempty"`
}

// Credentials say where those for a source are read: a username with the file of
// its password, the file of a token, a GitHub App, or for an OCI artifact a
// docker configuration.
type Credentials struct {
	Username     string `json:"username,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
	TokenFile    string `json:"tokenFile,omitempty"`
	// BearerTokenFile holds a token that is sent as such, and not as a password.
	BearerTokenFile string    `json:"bearerTokenFile,omitempty"`
	GitHubApp       GitHubApp `json:"githubApp,omitzero"`
	// DockerConfigFile is as docker login writes it.
	DockerConfigFile string `json:"dockerConfigFile,omitempty"`
}

// Grant is what a source may reach in one target.
type Grant struct {
	Target string `json:"target"`
	// Namespaces it may touch; "*" is all.
	Namespaces []string `json:"namespaces,omitempty"`
	// ContextNamespace adds the target's own namespace, whichever that is.
	ContextNamespace bool `json:"contextNamespace,omitempty"`
	// ServiceAccounts are those that environments may be applied as, each
	// "namespace/name", where either may be "*". With any, none is applied as the
	// daemon itself.
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Cluster allows what lives outside namespaces.
	Cluster bool `json:"cluster,omitempty"`
}

// OCI tells whether the source is an OCI artifact.
func (s Source) OCI() bool { return strings.HasPrefix(s.URL, ociScheme) }

const ociScheme = "oci://"

// Target is the target of a name.
func (c Config) Target(name string) (Target, bool) {
	for _, t := range c.Targets {
		if t.Name == name {
			return t, true
		}
	}
	return Target{}, false
}

// SharesWith reports whether another source's environments may take files from
// this one.
func (s Source) SharesWith(other string) bool {
	return slices.Contains(s.SharedWith, "*") || slices.Contains(s.SharedWith, other)
}
