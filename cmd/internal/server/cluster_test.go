package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
)

// fakeCluster knows tokens named "x.NAME.y", and who may what: "NAME verb" is for
// all environments, "NAME verb environment" for one.
type fakeCluster struct {
	mu      sync.Mutex
	rights  []string
	fails   error
	holders int
	asked   int
}

func (c *fakeCluster) Holder(_ context.Context, token string) (ClusterUser, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holders++
	name := strings.Split(token, ".")[1]
	return ClusterUser{Name: "system:serviceaccount:ops:" + name}, name != "unknown", c.fails
}

func (c *fakeCluster) May(_ context.Context, u ClusterUser, verb, environment string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	name := strings.TrimPrefix(u.Name, "system:serviceaccount:ops:")
	return slices.Contains(c.rights, name+" "+verb) || environment != "" && slices.Contains(c.rights, name+" "+verb+" "+environment), c.fails
}

func (c *fakeCluster) counts() (holders, asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holders, c.asked
}

func (c *fakeCluster) set(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
}

func account(name string) func(*http.Request) { return bearer("x." + name + ".y") }

// clustered is a server that asks a cluster, with a clock that can be moved.
func clustered(c *fakeCluster, o Options) (f *fakeEngine, h http.Handler, wait func(time.Duration)) {
	f = newFake("shop-dev", "prod")
	clock := now
	o.Engine, o.Cluster, o.Listen, o.Now = f, c, "127.0.0.1:8080", func() time.Time { return clock }
	return f, New(o).Handler(false), func(d time.Duration) { clock = clock.Add(d) }
}

func TestRightsInTheClusterSayWhatAnAccountMayDo(t *testing.T) {
	c := &fakeCluster{rights: []string{
		"viewer get", "shop get shop-dev", "shop operate shop-dev", "ops get", "ops operate", "root get", "root operate", "root administer",
		"half operate", // without get
	}}
	f, h, _ := clustered(c, Options{ReadsNeedToken: true, Decider: obliging{}})
	for _, tt := range []struct {
		who, method, path string
		want              int
	}{
		{"unknown", "GET", api.PathEnvironments, 401},
		{"nobody", "GET", api.PathEnvironments, 403},
		{"half", "POST", api.PathResync, 403},
		{"viewer", "GET", api.PathEnvironments + "/prod", 200},
		{"viewer", "POST", api.PathResync, 403},
		{"shop", "GET", api.PathEnvironments + "/shop-dev", 200},
		{"shop", "GET", api.PathEnvironments + "/prod", 404},
		{"shop", "POST", api.PathEnvironments + "/shop-dev/resync", 202},
		{"shop", "POST", api.PathEnvironments + "/prod/resync", 403},
		{"shop", "POST", api.PathResync, 403},
		{"ops", "POST", api.PathEnvironments + "/prod/resync", 202},
		{"ops", "POST", api.PathLedgerCheck, 403},
		{"root", "POST", api.PathLedgerCheck, 503}, // there is no ledger
	} {
		res := ask(t, h, tt.method, tt.path, account(tt.who))
		if res.StatusCode != tt.want {
			t.Errorf("%s %s as %s: %d, want %d: %s", tt.method, tt.path, tt.who, res.StatusCode, tt.want, text(t, res))
		}
	}
	if actor := f.trig[0].Actor; actor != "system:serviceaccount:ops:shop" {
		t.Errorf("actor %q", actor)
	}
	if list := text(t, ask(t, h, "GET", api.PathEnvironments, account("shop"))); !strings.Contains(list, "shop-dev") || strings.Contains(list, "prod") {
		t.Errorf("shop is told of %s", list)
	}
}

func TestAnswersOfTheClusterAreKeptForAMoment(t *testing.T) {
	c := &fakeCluster{rights: []string{"ops get", "ops operate"}}
	_, h, wait := clustered(c, Options{})
	resync := func(who string) int { return ask(t, h, "POST", api.PathResync, account(who)).StatusCode }
	for range 5 {
		if got := resync("ops"); got != 202 {
			t.Fatal(got)
		}
		if got := resync("unknown"); got != 401 {
			t.Fatal(got)
		}
	}
	if holders, asked := c.counts(); holders != 2 || asked != 3 {
		t.Errorf("%d reviews of tokens, %d of access", holders, asked)
	}
	c.set(func() { c.rights = nil })
	wait(clusterKnown + time.Second)
	if got := resync("ops"); got != 403 {
		t.Errorf("a right that was taken back: %d", got)
	}
	c.set(func() { c.rights = []string{"unknown get"} })
	if holders, _ := c.counts(); holders != 3 {
		t.Errorf("%d reviews of tokens", holders)
	}
}

func TestWhatIsKeptOfTokensIsBounded(t *testing.T) {
	holders := newHolders(&fakeCluster{}, func() time.Time { return now })
	for i := range 3 * maxHolders {
		if _, err := holders.whose(t.Context(), fmt.Sprintf("x.%d.y", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(holders.all); n > maxHolders {
		t.Errorf("%d are kept", n)
	}
}

func TestAClusterThatIsAwayStopsNoTokenOfOurs(t *testing.T) {
	c := &fakeCluster{fails: errors.New("connection refused")}
	var log bytes.Buffer
	_, h, _ := clustered(c, Options{Tokens: staff(t), Logger: quiet(&log)})
	if res := ask(t, h, "POST", api.PathResync, bearer(annaToken)); res.StatusCode != 202 {
		t.Errorf("our token: %d", res.StatusCode)
	}
	if res := ask(t, h, "POST", api.PathResync, bearer("guess-0123456789")); res.StatusCode != 401 {
		t.Errorf("a wrong one: %d", res.StatusCode)
	}
	if n, _ := c.counts(); n != 0 {
		t.Errorf("the cluster was sent %d tokens that are none of its own", n)
	}
	res := ask(t, h, "POST", api.PathResync, account("ops"))
	if answer := text(t, res); res.StatusCode != 503 || !strings.Contains(answer, "cannot be asked") || strings.Contains(answer, "refused") {
		t.Errorf("%d %s", res.StatusCode, answer)
	}
	if !strings.Contains(log.String(), "connection refused") || strings.Contains(log.String(), "x.ops.y") {
		t.Errorf("the log: %s", log.String())
	}
	c.set(func() { c.fails, c.rights = nil, []string{"ops get", "ops operate"} })
	if res := ask(t, h, "POST", api.PathResync, account("ops")); res.StatusCode != 202 {
		t.Errorf("when it is back: %d", res.StatusCode)
	}
}

func TestGuessesDoNotReachTheClusterWithoutBound(t *testing.T) {
	c := &fakeCluster{rights: []string{"ops get"}}
	_, h, _ := clustered(c, Options{ReadsNeedToken: true, ChangesPerMinute: 5})
	read := func(token string) int { return ask(t, h, "GET", api.PathEnvironments, bearer(token)).StatusCode }
	if got := read("x.ops.y"); got != 200 {
		t.Fatal(got)
	}
	var last int
	for i := range 20 {
		last = read(fmt.Sprintf("%d.unknown.y", i))
	}
	if n, _ := c.counts(); last != 429 || n != 6 {
		t.Errorf("%d; the cluster was asked about %d", last, n)
	}
	if got := read("x.ops.y"); got != 200 {
		t.Errorf("who is known already: %d", got)
	}
}
