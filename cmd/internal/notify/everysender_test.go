package notify

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/config"
	"github.com/holdfast-gitops/holdfast/drift"
)

// refusing answers first as given, then 503 until it is told otherwise.
func refusing(t *testing.T, first ...int) *sink {
	answers := slices.Clone(first)
	for range 5000 {
		answers = append(answers, http.StatusServiceUnavailable)
	}
	return newSink(t, answers...)
}

// relent has it take what comes, and forgets what came.
func (s *sink) relent() {
	s.mu.Lock()
	s.answers = nil
	s.mu.Unlock()
	for len(s.calls) > 0 {
		<-s.calls
	}
}

// TestEverySenderTriesUntilItIsTaken has each kind of receiver refuse for a while
// and in each way that is worth another try, over a restart, and holds it to one
// message in the end, and to one of the alert's end.
func TestEverySenderTriesUntilItIsTaken(t *testing.T) {
	for _, kind := range []string{"slack", "teams", "discord", "webhook", "alertmanager", "pagerduty", "opsgenie", "cloudevents"} {
		t.Run(kind, func(t *testing.T) {
			s, w, dir := refusing(t, 500, 429, 502, 504, 401, 404), &world{view: env("prod", failing("one"))}, t.TempDir()
			c := config.Notifications{Receivers: []config.Receiver{{Name: "x", Kind: kind, URL: s.URL, SecretFile: secretFile(t, planted)}}}
			first := start(t, dir, c, w)
			eventually(t, "it gives up", func() bool { return first.count("x failed") > 7 })
			first.stop()
			if first.count("x sent")+first.count("x dropped") > 0 {
				t.Errorf("counts %v", first.counts)
			}
			s.relent()
			second := start(t, dir, c, w)
			s.next(t)
			eventually(t, "it is not settled", func() bool { return second.count("x sent") == 1 && second.Waiting()["x"] == 0 })
			w.set(env("prod"))
			s.next(t)
			eventually(t, "the end is not told", func() bool { return second.count("x sent") == 2 && second.Waiting()["x"] == 0 })
			second.stop()
			if len(s.calls) > 0 || strings.Contains(first.log.String()+second.log.String(), planted) {
				t.Errorf("%d more calls", len(s.calls))
			}
		})
	}
}

func TestALetterIsTriedAgainAlsoAfterARestart(t *testing.T) {
	busy, well := newMailServer(t), newMailServer(t)
	busy.rcpt = "451 later"
	w, dir := &world{view: env("prod", failing("one"))}, t.TempDir()
	to := func(s *mailServer) config.Notifications {
		return config.Notifications{Receivers: []config.Receiver{{
			Name: "mail", Kind: "email", Host: s.Addr().String(), From: "holdfast@example.org", To: []string{"ops@example.org"},
			Username: "robot", SecretFile: secretFile(t, planted), CAFile: s.ca,
		}}}
	}
	first := start(t, dir, to(busy), w)
	over := make(chan bool)
	defer close(over)
	go func() { // what each connection said is of no interest
		for {
			select {
			case <-busy.said:
			case <-over:
				return
			}
		}
	}()
	eventually(t, "it gives up", func() bool { return first.count("mail failed") > 4 })
	first.stop()
	second := start(t, dir, to(well), w)
	eventually(t, "it is not sent", func() bool { return second.count("mail sent") == 1 && second.Waiting()["mail"] == 0 })
	second.stop()
	if len(well.letters) != 1 || len(busy.letters) != 0 || first.count("mail sent") != 0 {
		t.Errorf("%d letters, and %d where there is no room", len(well.letters), len(busy.letters))
	}
}

func TestQuietHoursPutOffAndSumUp(t *testing.T) {
	s := newSink(t)
	c := config.Notifications{
		Remind: 24 * time.Hour, Digest: "off", Quiet: []config.QuietHours{{From: "11:00", To: "13:00", Except: "critical"}},
		Receivers: []config.Receiver{{Name: "chat", Kind: "slack", URL: s.URL}},
	}
	w := &world{view: env("prod", failing("one"))}
	n, err := Open(Options{Config: c, DataDir: t.TempDir(), Look: w.look, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	r := n.receivers["chat"]
	n.look(noon)
	if f, wait := n.next("chat", r, noon); len(f.Notices) != 0 || wait != time.Hour {
		t.Errorf("in quiet hours: %v, in %s", f, wait)
	}
	bad := env("prod", failing("one"))
	e := episode(drift.Critical, drift.Open)
	bad.Drifts = []drift.Episode{e}
	w.set(bad)
	n.look(noon.Add(time.Minute))
	f, _ := n.next("chat", r, noon.Add(time.Minute))
	if len(f.Notices) != 1 || f.Notices[0].Kind != Drift {
		t.Fatalf("what is critical waits: %v", f)
	}
	n.settle("chat", f, nil)
	w.set(env("prod")) // all of it ends before anybody heard of the failure
	n.look(noon.Add(2 * time.Minute))
	n.look(noon.Add(30 * time.Minute))
	f, _ = n.next("chat", r, noon.Add(time.Hour))
	count := map[string]int{}
	for _, one := range f.Notices {
		count[one.Kind]++
	}
	if count[Failed] != 1 {
		t.Errorf("afterwards: %v", f.Notices)
	}
}
