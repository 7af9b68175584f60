package gitrepo

import (
	"net"
	"strings"
	"testing"
)

func TestAddresses(t *testing.T) {
	for raw, want := range map[string]address{
		"https://host/x.git":                {url: "https://host/x.git", scheme: "https"},
		"HTTPS://ada:pw@host:8443/x":        {url: "https://host:8443/x", scheme: "https", username: "ada", password: "pw"},
		"ssh://host/x.git":                  {url: "ssh://host/x.git", scheme: "ssh", host: "host:22", path: "/x.git"},
		"ssh://git@host:2222/team/x":        {url: "ssh://host:2222/team/x", scheme: "ssh", username: "git", host: "host:2222", path: "/team/x"},
		"ssh://git@[::1]:2222/x":            {url: "ssh://[::1]:2222/x", scheme: "ssh", username: "git", host: "[::1]:2222", path: "/x"},
		"ssh://git@host/~ann/x":             {url: "ssh://host/~ann/x", scheme: "ssh", username: "git", host: "host:22", path: "~ann/x"},
		"git@host:team/x.git":               {url: "host:team/x.git", scheme: "ssh", username: "git", host: "host:22", path: "team/x.git"},
		"host:x":                            {url: "host:x", scheme: "ssh", host: "host:22", path: "x"},
		"git@[::1]:x":                       {url: "[::1]:x", scheme: "ssh", username: "git", host: "[::1]:22", path: "x"},
		"git@host:/srv/x":                   {url: "host:/srv/x", scheme: "ssh", username: "git", host: "host:22", path: "/srv/x"},
		"org-123@host:v3/team/project/repo": {url: "host:v3/team/project/repo", scheme: "ssh", username: "org-123", host: "host:22", path: "v3/team/project/repo"},
	} {
		got, err := parseAddress(raw)
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v\nwant %+v", raw, got, err, want)
		}
	}
}

// No address, however odd, shows its password, or runs anything but a plain path
// on the server.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{
		"https://ada:S3NTINEL@host/x", "ssh://git:S3NTINEL@host:1/x", "git:S3NTINEL@host:x", "git@[::1]:x", "ssh://-o@-x/-y",
		"https://S3NTINEL@host", "host:-x", "ssh://h/~a", "a@b@c:d", "[:]:x", "x://S3NTINEL", "https://%zz:S3NTINEL@h/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAddress(raw)
		if err != nil {
			if strings.Contains(err.Error(), "S3NTINEL") && !strings.HasPrefix(strings.ToUpper(raw), "S3NTINEL") {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		if a.password != "" && len(a.password) > 7 && strings.Contains(a.url, a.password) && strings.Count(raw, a.password) == 1 {
			t.Errorf("%q is shown as %q", raw, a.url)
		}
		if a.scheme != "ssh" {
			return
		}
		host, port, err := net.SplitHostPort(a.host)
		if err != nil || port == "" || strings.HasPrefix(host, "-") || strings.HasPrefix(a.path, "-") || a.path == "" || a.password != "" {
			t.Errorf("%q is taken for %+v, %v", raw, a, err)
		}
		if word := quoted(a.path); strings.Count(strings.NewReplacer(`'\''`, "", `'\!'`, "").Replace(word), "'") != 2 {
			t.Errorf("%q is quoted as %s", a.path, word)
		}
	})
}

func TestScrubFindsWhatWasCut(t *testing.T) {
	k := newKeyring(Options{Password: "correct-horse"}, address{scheme: "https"}, nil)
	for text, want := range map[string]string{
		"you sent correct-horse":         "you sent ***",
		"you sent correct-h…":            "you sent ***…",
		"you sent cor… and correct-hor…": "you sent ***… and ***…",
		"the c…":                         "the c…",
		"correct":                        "correct",
		"nothing":                        "nothing",
	} {
		if got := k.scrub(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}
