package drift

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-gitops/holdfast/sources"
)

func TestValueNeverShowsWhatIsSensitive(t *testing.T) {
	v := NewValue(map[string]any{"token": "sentinel"}, true)
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{v.String(), string(raw), fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v)} {
		if strings.Contains(text, "sentinel") {
			t.Errorf("%s holds the value", text)
		}
	}
}

func TestValueSurvivesJSON(t *testing.T) {
	long := strings.Repeat("ä", maxValue)
	for _, v := range []Value{Absent(), NewValue(nil, false), NewValue("a<b", false), NewValue(3, false), NewValue(1, true), NewValue(long, false)} {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Value
		if err := json.Unmarshal(raw, &back); err != nil || back.String() != v.String() || back.Present() != v.Present() {
			t.Errorf("%s came back as %s, %v", v, back, err)
		}
	}
	if got := NewValue("a<b", false).String(); got != `"a<b"` {
		t.Errorf("got %s", got)
	}
	if got := len(NewValue(long, false).String()); got > maxValue+len("…") {
		t.Errorf("a long value takes %d bytes", got)
	}
}

func TestBookTellsOneStoryPerDrift(t *testing.T) {
	b := NewBook()
	id := sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}
	start := time.Unix(1000, 0)
	s := Sighting{Environment: "prod", Object: id, Class: Changed, Seen: start, At: start}
	first, fresh := b.See(s)
	s.At = start.Add(time.Minute)
	second, again := b.See(s)
	if !fresh || again || first.ID != second.ID || second.Occurrences != 2 || !second.FirstSeen.Equal(start) {
		t.Errorf("two sightings: %+v, %+v", first, second)
	}
	if got, ok := b.End("prod", id, Persists, s.At); !ok || got.State != Persists || b.OpenCount("prod") != 1 {
		t.Errorf("persisting: %+v, %d open", got, b.OpenCount("prod"))
	}
	if got, ok := b.End("prod", id, Corrected, s.At); !ok || got.Ended != s.At || b.OpenCount("prod") != 0 {
		t.Errorf("corrected: %+v, %d open", got, b.OpenCount("prod"))
	}
	if _, ok := b.End("prod", id, Corrected, s.At); ok {
		t.Error("ended twice")
	}
	if third, fresh := b.See(s); !fresh || third.Occurrences != 1 {
		t.Errorf("the next drift: %+v", third)
	}
	if got := b.List(func(*Episode) bool { return true }); len(got) != 2 || !got[0].Ended.IsZero() {
		t.Errorf("list %+v; want the open one first", got)
	}
}

func TestEpisodesOfAnEarlierProcessGoOn(t *testing.T) {
	before, b := NewBook(), NewBook()
	ids := map[string]string{}
	start := time.Unix(1000, 0)
	for _, name := range []string{"again", "gone", "left", "unseen"} {
		e, _ := before.See(Sighting{Environment: "prod", Object: sources.ID{Kind: "ConfigMap", Name: name}, Seen: start, At: start})
		ids[name] = e.ID
	}
	b.Recall(before.List(func(*Episode) bool { return true }))
	if n := b.OpenCount("prod"); n != 0 || len(b.List(func(*Episode) bool { return true })) != 0 {
		t.Errorf("%d are open before anybody looked", n)
	}
	later := start.Add(time.Hour)
	again, fresh := b.See(Sighting{Environment: "prod", Object: sources.ID{Kind: "ConfigMap", Name: "again"}, Seen: later, At: later})
	if fresh || again.ID != ids["again"] || !again.FirstSeen.Equal(start) || again.Occurrences != 2 {
		t.Errorf("seen again: %+v, new %v", again, fresh)
	}
	gone, ok := b.End("prod", sources.ID{Kind: "ConfigMap", Name: "gone"}, Gone, later)
	if !ok || gone.ID != ids["gone"] || gone.Ended != later {
		t.Errorf("gone meanwhile: %+v, %v", gone, ok)
	}
	left := b.EndAll("prod", Gone, later, func(id sources.ID) bool { return id.Name != "left" })
	if len(left) != 1 || left[0].ID != ids["left"] {
		t.Errorf("left git: %+v", left)
	}
	if n := b.OpenCount("prod"); n != 1 {
		t.Errorf("%d are open", n)
	}
}

func TestBookIsBounded(t *testing.T) {
	b := NewBook()
	for i := range 2 * keepEnded {
		id := sources.ID{Kind: "ConfigMap", Name: fmt.Sprint(i)}
		b.See(Sighting{Environment: "prod", Object: id, Changes: make([]Change, 2*maxChanges)})
		if got, _ := b.End("prod", id, Gone, time.Unix(int64(i), 0)); len(got.Changes) > maxChanges {
			t.Fatalf("an episode of %d changes", len(got.Changes))
		}
	}
	if got := len(b.List(func(*Episode) bool { return true })); got < keepEnded || got > keepEnded+keepEnded/4 {
		t.Errorf("%d episodes are kept, want about %d", got, keepEnded)
	}
}

func TestCauseComesFromWhoWrote(t *testing.T) {
	for cause, managers := range map[Cause][]string{
		UnknownCause: {Unknown, Unknown},
		Manual:       {"some-controller", "kubectl-edit"},
		Controller:   {Unknown, "some-controller"},
	} {
		if got := CauseOf(managers); got != cause {
			t.Errorf("%v: %s, want %s", managers, got, cause)
		}
	}
}
