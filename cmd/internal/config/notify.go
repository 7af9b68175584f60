package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // images without a system know the zones, too

	"github.com/holdfast-gitops/holdfast/internal/yamldoc"
)

// The defaults of notifications.
const (
	DefaultRemind = 24 * time.Hour
	DefaultGroup  = 15 * time.Second
	DefaultSettle = time.Minute
	DefaultDigest = "08:00"
)

// minRemind bounds how often people are reminded.
const minRemind = 5 * time.Minute

// Notifications says who is told what. Without receivers, nobody is.
type Notifications struct {
	Receivers []Receiver `json:"receivers,omitempty"`
	// Routes say what goes to whom; all that match count. Without any, everything
	// goes to every receiver.
	Routes []Route `json:"routes,omitempty"`
	// Quiet are hours in which only what is bad enough is sent; the rest comes at
	// their end.
	Quiet []QuietHours `json:"quiet,omitempty"`
	// Remind is how often what goes on is told again.
	Remind time.Duration `json:"remind,omitempty"`
	// Group is how long a message waits for what else happens.
	Group time.Duration `json:"group,omitempty"`
	// Settle is how long something must be well before that is told, so that what
	// comes and goes is told once. It is how long a source may fail unsaid, too.
	Settle time.Duration `json:"settle,omitempty"`
	// Digest is the time of day of the summary of corrected drift, or off.
	Digest string `json:"digest,omitempty"`
	// TimeZone of the digest and of quiet hours, such as Europe/Berlin. Empty is
	// UTC.
	TimeZone string `json:"timeZone,omitempty"`
	// Link is the dashboard's address, for messages to point at.
	Link string `json:"link,omitempty"`
}

// Receiver is a place to send to. Which keys it needs depends on its kind.
type Receiver struct {
	Name string `json:"name"`
	// Kind is slack, teams, discord, webhook, alertmanager, pagerduty, opsgenie,
	// email or cloudevents.
	Kind string `json:"kind"`
	// URL is where to send. Where the address is a secret itself, as of Slack,
	// Teams and Discord, URLFile holds it.
	URL     string `json:"url,omitempty"`
	URLFile string `json:"urlFile,omitempty"`
	// SecretFile holds what proves who sends: the key that a webhook is signed
	// with, the routing key of PagerDuty, the API key of Opsgenie, the bearer
	// token of Alertmanager and CloudEvents, or the password of email.
	SecretFile string `json:"secretFile,omitempty"`
	// CAFile holds certificates to trust beside the system's.
	CAFile string `json:"caFile,omitempty"`
	// Template, of Go's text/template, makes the text; empty is the default.
	Template string `json:"template,omitempty"`
	// Host is the mail server as host:port, Username who signs in there.
	Host     string   `json:"host,omitempty"`
	Username string   `json:"username,omitempty"`
	From     string   `json:"from,omitempty"`
	To       []string `json:"to,omitempty"`
}

// Route sends what it matches to receivers. An empty key matches all.
type Route struct {
	Receivers []string `json:"receivers"`
	// Environments are names, in which * stands for any text.
	Environments []string `json:"environments,omitempty"`
	// Kinds are those of docs/notifications.md.
	Kinds []string `json:"kinds,omitempty"`
	// Severity is the least: low, medium, high or critical.
	Severity string `json:"severity,omitempty"`
	// Labels are of the environment's spec, each key=value. It needs all of them.
	Labels []string `json:"labels,omitempty"`
}

// QuietHours are a time of day in which only what is bad enough is sent.
type QuietHours struct {
	// From and To are times of day, such as 22:00; To may be on the next day.
	From string `json:"from"`
	To   string `json:"to"`
	// Days are mon to sun, by the beginning; empty is every day.
	Days []string `json:"days,omitempty"`
	// Except is the least severity that is sent nevertheless. Default: critical.
	Except string `json:"except,omitempty"`
}

var (
	// ReceiverKinds are the senders.
	ReceiverKinds = []string{"slack", "teams", "discord", "webhook", "alertmanager", "pagerduty", "opsgenie", "email", "cloudevents"}
	// AlertKinds are what can be told.
	AlertKinds = []string{"failed", "unhealthy", "stale", "source", "fight", "approval", "hold-ends", "drift", "digest"}
	severities = []string{"low", "medium", "high", "critical"}
	days       = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
)

func (d *decoder) notifications(n *yamldoc.Node, c *Notifications) {
	c.Remind, c.Group, c.Settle, c.Digest = DefaultRemind, DefaultGroup, DefaultSettle, DefaultDigest
	const what = "notifications."
	d.Mapping(n, "notifications",
		on("receivers", func(n *yamldoc.Node) { c.Receivers = d.receivers(n) }),
		on("routes", func(n *yamldoc.Node) { c.Routes = d.routes(n) }),
		on("quiet", func(n *yamldoc.Node) { c.Quiet = d.quiet(n) }),
		d.durationField("remind", what, minRemind, &c.Remind),
		d.durationField("group", what, 0, &c.Group),
		d.durationField("settle", what, 0, &c.Settle),
		d.textField("digest", what, &c.Digest),
		d.textField("timeZone", what, &c.TimeZone),
		d.textField("link", what, &c.Link),
	)
	if n.Kind != yamldoc.Mapping {
		return
	}
	if c.Digest != "off" {
		d.checkClock(n, what+"digest", c.Digest)
	}
	if _, err := time.LoadLocation(c.TimeZone); err != nil {
		d.Fail(n, fmt.Sprintf("%stimeZone %q is not known", what, c.TimeZone), "write it as Europe/Berlin, or leave it out for UTC")
	}
	names := make([]string, len(c.Receivers))
	for i, r := range c.Receivers {
		names[i] = r.Name
	}
	for i := range c.Routes {
		for _, name := range c.Routes[i].Receivers {
			if !slices.Contains(names, name) {
				d.Fail(n, fmt.Sprintf("%sroutes[%d]: there is no receiver %q", what, i, name), yamldoc.Suggest(name, names))
			}
		}
	}
}

// checkClock refuses what is no time of day.
func (d *decoder) checkClock(n *yamldoc.Node, what, text string) {
	if _, err := time.Parse("15:04", text); err != nil {
		d.Fail(n, fmt.Sprintf("%s %q is no time of day", what, text), "write it as 08:00")
	}
}

func (d *decoder) receivers(n *yamldoc.Node) []Receiver {
	entries := d.List(n, "notifications.receivers")
	out := make([]Receiver, len(entries))
	seen := map[string]int{}
	for i, e := range entries {
		r, what := &out[i], fmt.Sprintf("notifications.receivers[%d]", i)
		before := len(d.Problems)
		d.Mapping(e, what,
			d.labelField("name", what+".", &r.Name),
			d.wordField("kind", what+".", &r.Kind, ReceiverKinds...),
			d.textField("url", what+".", &r.URL),
			d.pathField("urlFile", what+".", &r.URLFile),
			d.pathField("secretFile", what+".", &r.SecretFile),
			d.pathField("caFile", what+".", &r.CAFile),
			d.textField("template", what+".", &r.Template),
			d.textField("host", what+".", &r.Host),
			d.textField("username", what+".", &r.Username),
			d.textField("from", what+".", &r.From),
			on("to", func(n *yamldoc.Node) { r.To = d.texts(n, what+".to") }),
		)
		d.unique(e, &r.Name, what, seen)
		if len(d.Problems) == before && e.Kind == yamldoc.Mapping {
			d.checkReceiver(e, r, what)
		}
	}
	return out
}

// checkReceiver says what its kind needs.
func (d *decoder) checkReceiver(n *yamldoc.Node, r *Receiver, what string) {
	given := map[string]bool{
		"url": r.URL != "" || r.URLFile != "", "secretFile": r.SecretFile != "",
		"host": r.Host != "", "from": r.From != "", "to": len(r.To) > 0,
	}
	need := map[string][]string{
		"": nil, "slack": {"url"}, "teams": {"url"}, "discord": {"url"}, "webhook": {"url", "secretFile"}, "alertmanager": {"url"},
		"pagerduty": {"secretFile"}, "opsgenie": {"secretFile"}, "email": {"host", "from", "to"}, "cloudevents": {"url"},
	}
	if r.Kind == "" {
		d.Fail(n, what+" has no kind", "kinds are "+strings.Join(ReceiverKinds, ", "))
	}
	for _, key := range need[r.Kind] {
		if !given[key] {
			d.Fail(n, fmt.Sprintf("%s is of kind %s, which needs %s", what, r.Kind, key), "see docs/notifications.md")
		}
	}
	if r.Kind != "email" && (r.Host != "" || r.Username != "" || r.From != "" || len(r.To) > 0) {
		d.Fail(n, what+" has keys that are for email", "host, username, from and to")
	}
	if r.URL != "" && r.URLFile != "" {
		d.Fail(n, what+" has both url and urlFile", "")
	}
	if r.URL != "" && !strings.HasPrefix(r.URL, "https://") && !strings.HasPrefix(r.URL, "http://") {
		d.Fail(n, what+".url must begin with https:// or http://", "")
	}
}

func (d *decoder) routes(n *yamldoc.Node) []Route {
	entries := d.List(n, "notifications.routes")
	out := make([]Route, len(entries))
	for i, e := range entries {
		r, what := &out[i], fmt.Sprintf("notifications.routes[%d]", i)
		before := len(d.Problems)
		d.Mapping(e, what,
			on("receivers", func(n *yamldoc.Node) { r.Receivers = d.texts(n, what+".receivers") }),
			on("environments", func(n *yamldoc.Node) { r.Environments = d.texts(n, what+".environments") }),
			on("kinds", func(n *yamldoc.Node) { r.Kinds = d.words(n, what+".kinds", AlertKinds) }),
			d.wordField("severity", what+".", &r.Severity, severities...),
			on("labels", func(n *yamldoc.Node) { r.Labels = d.texts(n, what+".labels") }),
		)
		if len(d.Problems) > before || e.Kind != yamldoc.Mapping {
			continue
		}
		if len(r.Receivers) == 0 {
			d.Fail(e, what+" names no receivers", "")
		}
		for _, label := range r.Labels {
			if key, _, ok := strings.Cut(label, "="); !ok || key == "" {
				d.Fail(e, fmt.Sprintf("%s.labels: %q is no label", what, label), "write key=value")
			}
		}
		for _, pattern := range r.Environments {
			if _, err := path.Match(pattern, ""); err != nil {
				d.Fail(e, fmt.Sprintf("%s.environments: %q is no pattern", what, pattern), "* stands for any text")
			}
		}
	}
	return out
}

// words reads a list of which each entry is one of a few words.
func (d *decoder) words(n *yamldoc.Node, what string, allowed []string) []string {
	entries := d.List(n, what)
	out := make([]string, len(entries))
	for i, e := range entries {
		d.Word(e, fmt.Sprintf("%s[%d]", what, i), &out[i], allowed...)
	}
	return out
}

func (d *decoder) quiet(n *yamldoc.Node) []QuietHours {
	entries := d.List(n, "notifications.quiet")
	out := make([]QuietHours, len(entries))
	for i, e := range entries {
		q, what := &out[i], fmt.Sprintf("notifications.quiet[%d]", i)
		q.Except = "critical"
		d.Mapping(e, what,
			d.textField("from", what+".", &q.From),
			d.textField("to", what+".", &q.To),
			on("days", func(n *yamldoc.Node) { q.Days = d.words(n, what+".days", days) }),
			d.wordField("except", what+".", &q.Except, severities...),
		)
		if e.Kind == yamldoc.Mapping {
			d.checkClock(e, what+".from", q.From)
			d.checkClock(e, what+".to", q.To)
		}
	}
	return out
}
