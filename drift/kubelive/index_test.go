package kubelive

import (
	"bytes"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-gitops/holdfast/sources"
)

var anObject = sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "a"}

func record(uid, version string, generation int64, own byte) Record {
	return Record{UID: types.UID(uid), ResourceVersion: version, Generation: generation, Environment: "prod", Own: Digest{own}}
}

// hints collects what the index says.
func hints() (*[]Hint, *Index) {
	got := &[]Hint{}
	return got, NewIndex(nil, func(h Hint) { *got = append(*got, h) })
}

func TestIndexExplainsOwnWrites(t *testing.T) {
	got, x := hints()
	x.BeginWrite(anObject)
	x.observe(anObject, record("1", "10", 1, 1)) // the watch is faster than the response
	x.Wrote(anObject, Baseline{Record: record("1", "10", 1, 1)})
	x.observe(anObject, record("1", "10", 1, 1)) // or slower
	if len(*got) != 0 || x.Look(anObject).Verdict != Clean {
		t.Errorf("own write: hints %v, verdict %v; want none, clean", *got, x.Look(anObject).Verdict)
	}
}

func TestIndexHintsAtForeignWrites(t *testing.T) {
	for _, c := range []struct {
		name    string
		later   Record
		hint    bool
		verdict Verdict
	}{
		{"status of a kind with generation", record("1", "11", 1, 1), false, Clean},
		{"any change of a kind without generation", record("1", "11", 0, 1), true, Suspect},
		{"generation", record("1", "11", 2, 1), true, Suspect},
		{"fields taken from us", record("1", "11", 1, 2), true, Suspect},
		{"another object of the name", record("2", "11", 1, 1), true, Suspect},
		{"an old event", record("1", "9", 7, 7), false, Clean},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, x := hints()
			base := record("1", "10", c.later.Generation, 1)
			if c.name == "generation" || c.name == "an old event" {
				base.Generation = 1
			}
			x.Verified(anObject, Baseline{Record: base})
			x.observe(anObject, c.later)
			if (len(*got) == 1) != c.hint || x.Look(anObject).Verdict != c.verdict {
				t.Errorf("hints %v, verdict %v; want hint %v, verdict %v", *got, x.Look(anObject).Verdict, c.hint, c.verdict)
			}
		})
	}
}

func TestIndexTellsDeletionsApart(t *testing.T) {
	got, x := hints()
	x.Verified(anObject, Baseline{Record: record("1", "10", 1, 1)})
	x.vanished(anObject, record("1", "11", 1, 1))
	if len(*got) != 1 || x.Look(anObject).Verdict != Gone {
		t.Fatalf("foreign delete: hints %v, verdict %v; want one, gone", *got, x.Look(anObject).Verdict)
	}
	x.BeginWrite(anObject)
	x.Wrote(anObject, Baseline{Record: record("2", "15", 1, 1)})
	x.vanished(anObject, record("1", "12", 1, 1)) // news of the first life
	if len(*got) != 1 || x.Look(anObject).Verdict != Clean {
		t.Errorf("late news of an earlier life: hints %v, verdict %v; want no more, clean", *got, x.Look(anObject).Verdict)
	}
	x.BeginWrite(anObject)
	x.Deleted(anObject)
	x.vanished(anObject, record("2", "16", 1, 1))
	if len(*got) != 1 || x.Look(anObject).Verdict != Unseen {
		t.Errorf("own delete: hints %v, verdict %v; want no more, unseen", *got, x.Look(anObject).Verdict)
	}
}

func TestIndexBelievesTheWatchThatOvertookAResponse(t *testing.T) {
	got, x := hints()
	x.Verified(anObject, Baseline{Record: record("1", "10", 1, 1)})
	x.BeginWrite(anObject)
	x.vanished(anObject, record("1", "16", 1, 1)) // deleted just after our write
	x.Wrote(anObject, Baseline{Record: record("1", "15", 1, 1)})
	if len(*got) != 1 || x.Look(anObject).Verdict != Gone {
		t.Errorf("hints %v, verdict %v; want one, gone", *got, x.Look(anObject).Verdict)
	}
	x.Verified(anObject, Baseline{Record: record("1", "15", 1, 1)}) // a read from before it went
	if x.Look(anObject).Verdict != Gone {
		t.Error("an old read brought a deleted object back")
	}
}

func TestIndexDoesNotHintAtOurOwnFailedWrites(t *testing.T) {
	got, x := hints()
	x.Verified(anObject, Baseline{Record: record("1", "10", 1, 1)})
	x.observe(anObject, record("1", "11", 2, 2))
	x.BeginWrite(anObject)
	x.EndWrite(anObject)
	if len(*got) != 1 {
		t.Errorf("hints %v; want the watch's one only: who failed retries in its own time", *got)
	}
	x.BeginWrite(anObject)
	x.observe(anObject, record("1", "12", 3, 2))
	x.EndWrite(anObject)
	if len(*got) != 2 {
		t.Errorf("hints %v; want another for what came in during the write", *got)
	}
}

func TestIndexKeepsRelabelledObjectsWithWhoAppliedThem(t *testing.T) {
	got, x := hints()
	x.Verified(anObject, Baseline{Record: record("1", "10", 1, 1)})
	moved := record("1", "11", 1, 1)
	moved.Environment, moved.Meta = "other", Digest{9}
	x.observe(anObject, moved)
	if len(*got) != 1 || (*got)[0].Environment != "prod" {
		t.Errorf("hints %v; want one to prod", *got)
	}
}

func TestIndexRelistFindsWhatVanished(t *testing.T) {
	got, x := hints()
	x.Verified(anObject, Baseline{Record: record("1", "10", 1, 1)})
	fresh := sources.ID{Kind: "ConfigMap", Namespace: "web", Name: "fresh"}
	x.Verified(fresh, Baseline{Record: record("9", "30", 1, 1)})
	x.replace(func(sources.ID) bool { return true }, map[sources.ID]Record{}, "20")
	if len(*got) != 1 || (*got)[0].Object != anObject {
		t.Errorf("hints %v; want one for the object that the list lacks, and none for one made after the list", *got)
	}
}

func TestIndexStartsFromSavedBaselines(t *testing.T) {
	var got []Hint
	saved := map[sources.ID]Baseline{anObject: {Record: record("1", "10", 1, 1)}}
	x := NewIndex(saved, func(h Hint) { got = append(got, h) })
	x.observe(anObject, record("1", "10", 1, 1))
	if len(got) != 0 || x.Look(anObject).Verdict != Clean {
		t.Errorf("same version as saved: hints %v, verdict %v; want none, clean", got, x.Look(anObject).Verdict)
	}
	x.observe(anObject, record("1", "12", 2, 1))
	if len(got) != 1 {
		t.Errorf("changed while we were away: hints %v; want one", got)
	}
}

func TestIndexKnowsWhoIsHeld(t *testing.T) {
	_, x := hints()
	held := func(rv string, until int64) {
		r := record("1", rv, 1, 1)
		r.HeldUntil = until
		x.observe(anObject, r)
	}
	expect := func(what string, environment string, want int64) {
		t.Helper()
		if got := x.Held(environment)[anObject]; got != want {
			t.Errorf("%s: held until %d, want %d", what, got, want)
		}
	}
	x.Verified(anObject, Baseline{Record: record("1", "10", 1, 1)})
	expect("no annotation", "prod", 0)
	held("11", 500)
	expect("annotated", "prod", 500)
	expect("another environment", "other", 0)
	held("12", 0)
	expect("annotation taken away", "prod", 0)
	held("13", 600)
	x.vanished(anObject, record("1", "14", 1, 1))
	expect("gone", "prod", 0)
	b := Baseline{Record: record("2", "15", 1, 1)}
	b.HeldUntil = 700
	x.Verified(anObject, b)
	expect("made again", "prod", 700)
	x.Deleted(anObject)
	x.vanished(anObject, record("2", "16", 1, 1))
	expect("deleted", "prod", 0)
}

func TestBaselineFileKeepsBaselines(t *testing.T) {
	f := BaselineFile{Path: t.TempDir() + "/b"}
	x := NewIndex(nil, func(Hint) {})
	want := Baseline{Record: record("1", "10", 1, 1), Values: Digest{4}}
	x.Verified(anObject, want)
	if err := f.SaveIfChanged(x); err != nil {
		t.Fatal(err)
	}
	got, err := f.Load()
	if err != nil || got[anObject] != want {
		t.Errorf("loaded %+v, %v; want %+v", got, err, want)
	}
	if err := truncate(f.Path); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Load(); err == nil || len(got) != 0 {
		t.Errorf("truncated file: %v, %v; want an error and no baselines", got, err)
	}
}

// What changes after the file was written goes into its journal, and comes back
// with it, as far as the journal was written.
func TestJournalKeepsWhatChanged(t *testing.T) {
	f := BaselineFile{Path: t.TempDir() + "/b"}
	x := NewIndex(nil, func(Hint) {})
	ids := make([]sources.ID, 5)
	save := func(i int, version string) {
		t.Helper()
		ids[i] = sources.ID{Kind: "ConfigMap", Namespace: "web", Name: string(rune('a' + i))}
		x.Verified(ids[i], Baseline{Record: record("1", version, 1, 1), Values: Digest{4}})
		if err := f.SaveIfChanged(x); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, versions ...string) {
		t.Helper()
		got, err := (&BaselineFile{Path: f.Path}).Load()
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range versions {
			if v := got[ids[i]].ResourceVersion; v != want {
				t.Errorf("%s: object %d has version %q, want %q", what, i, v, want)
			}
		}
	}
	for i := range ids {
		save(i, "10")
	}
	file, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	save(1, "11")
	x.Deleted(ids[2])
	x.vanished(ids[2], record("1", "12", 1, 1))
	save(3, "12")
	if now, err := os.ReadFile(f.Path); err != nil || !bytes.Equal(now, file) {
		t.Errorf("one change wrote the whole file anew (%v)", err)
	}
	expect("journal", "10", "11", "", "12", "10")

	whole, err := os.ReadFile(f.journalPath())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.journalPath(), whole[:len(whole)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a journal that was cut off", "10", "11", "10", "10", "10")
	whole[len(whole)-3] ^= 1
	if err := os.WriteFile(f.journalPath(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a damaged journal", "10", "11", "10", "10", "10")

	// A process that starts writes the file anew, without what the old journal says.
	again := BaselineFile{Path: f.Path}
	x.Verified(ids[4], Baseline{Record: record("1", "13", 1, 1)})
	if err := again.SaveIfChanged(x); err != nil {
		t.Fatal(err)
	}
	expect("a new file", "10", "11", "", "12", "13")
	if err := os.WriteFile(f.journalPath(), whole[:len(whole)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	expect("the journal of another file", "10", "11", "", "12", "13")
}

func truncate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()/2)
}
