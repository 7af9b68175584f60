package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/reconciler"
	"github.com/holdfast-gitops/holdfast/sources"
)

// TestMain lets the test binary be the process that is killed, or whose disk is
// full.
func TestMain(m *testing.M) {
	if role := os.Getenv("HOLDFAST_TEST_LEDGER"); role != "" {
		os.Exit(child(role, os.Getenv("HOLDFAST_TEST_LEDGER_FILE")))
	}
	os.Exit(m.Run())
}

// start is a time in the record that no clock has to be read for.
var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// running opens a ledger and runs its writer until the test ends.
func running(t *testing.T, o Options) *Ledger {
	t.Helper()
	l, stop := begin(t, o)
	t.Cleanup(stop)
	return l
}

// begin is running with an end of its own.
func begin(t *testing.T, o Options) (*Ledger, func()) {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), FileName)
	}
	if o.Now == nil {
		o.Now = func() time.Time { return start.Add(24 * time.Hour) }
	}
	o.Log = zerolog.New(zerolog.NewTestWriter(t))
	l := Open(t.Context(), o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	var once sync.Once
	return l, func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func flush(t *testing.T, l *Ledger) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func testRun(n int) reconciler.Run {
	began := start.Add(time.Duration(n) * time.Minute)
	return reconciler.Run{
		ID: fmt.Sprintf("run-%06d", n), Environment: "prod",
		Trigger:  reconciler.Trigger{Reason: reconciler.ReasonOnCall, Actor: "socket"},
		Revision: sources.Revision{ID: "a1b2c3", Ref: "refs/heads/main", Author: "ann", Subject: "Scale <up>"},
		Result:   reconciler.Applied, PlanHash: "feed", Started: began, Finished: began.Add(time.Second), Seconds: 1,
		Counts: reconciler.Counts{Updated: 1, Unchanged: 3},
		Changes: []reconciler.ObjectChange{{
			Object: sources.ID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "api"}, Op: reconciler.OpUpdate,
			Origin: sources.Origin{File: "api.yaml", Line: 3},
			Fields: []drift.Change{{Path: ".spec.replicas", Desired: drift.NewValue(3, false), Live: drift.NewValue(2, false), Manager: "kubectl"}},
		}},
	}
}

func testEpisode(n int) drift.Episode {
	seen := start.Add(time.Duration(n) * time.Minute)
	return drift.Episode{
		ID: fmt.Sprintf("episode-%06d", n), Environment: "prod", Target: "default",
		Object: sources.ID{Kind: "ConfigMap", Namespace: "web", Name: fmt.Sprintf("c%d", n%7)},
		Class:  drift.Changed, Cause: drift.Manual, State: drift.Open, FirstSeen: seen, LastSeen: seen, Occurrences: 1,
		Changes: []drift.Change{{Path: ".data.color", Desired: drift.NewValue("blue", false), Live: drift.NewValue("red", false), Manager: "kubectl-edit"}},
	}
}

// sameRun compares what JSON carries.
func sameRun(t *testing.T, got, want reconciler.Run) {
	t.Helper()
	a, err := encode(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(b), string(a)); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
}

func TestRunsOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	l, stop := begin(t, Options{Path: path})
	want := testRun(1)
	l.RunEnded(want)
	stop()
	l = running(t, Options{Path: path})
	got, err := l.FindRun(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	sameRun(t, got, want)
	page, err := l.Runs(t.Context(), RunQuery{})
	if err != nil || len(page.Runs) != 1 || page.Runs[0].Changes != nil || page.Next != "" {
		t.Errorf("the list is %+v, %v; want the run without its changes", page, err)
	}
	last, err := l.LastRuns(t.Context())
	if err != nil || last["prod"].ID != want.ID {
		t.Errorf("last runs %v, %v", last, err)
	}
	if _, err := l.FindRun(t.Context(), "run-none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a run that is not there: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
}

func TestSilentPollsAreNotRecorded(t *testing.T) {
	l := running(t, Options{})
	poll := reconciler.Trigger{Reason: reconciler.ReasonPoll}
	quiet := reconciler.Run{ID: "quiet", Environment: "prod", Trigger: poll, Result: reconciler.Unchanged, Started: start, Finished: start}
	asked := quiet
	asked.ID, asked.Environment, asked.Trigger.Reason = "asked", "a", reconciler.ReasonOnCall
	pending := quiet
	pending.ID, pending.Environment, pending.Counts.Pending = "pending", "b", 2
	never := quiet
	never.ID, never.Result, never.Started = "never", reconciler.Superseded, time.Time{}
	absorbed := asked
	absorbed.ID = "absorbed"
	for _, r := range []reconciler.Run{quiet, asked, pending, never, absorbed} {
		l.RunEnded(r)
	}
	flush(t, l)
	page, err := l.Runs(t.Context(), RunQuery{})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range page.Runs {
		ids = append(ids, r.ID)
	}
	if !slices.Equal(ids, []string{"pending", "asked"}) {
		t.Errorf("recorded are %v; want what found something and what was asked for, each once", ids)
	}
}

func TestRunsAreFoundByPage(t *testing.T) {
	l := running(t, Options{})
	for n := range 25 {
		r := testRun(n)
		if n%5 == 0 {
			r.Environment = "dev"
			r.Changes[0].Object.Name = "other"
		}
		l.RunEnded(r)
	}
	flush(t, l)
	all := func(q RunQuery) (ids []string) {
		for {
			page, err := l.Runs(t.Context(), q)
			if err != nil || len(page.Runs) > q.Limit {
				t.Fatalf("%d runs, %v", len(page.Runs), err)
			}
			for _, r := range page.Runs {
				ids = append(ids, r.ID)
			}
			if q.Before = page.Next; q.Before == "" {
				return ids
			}
		}
	}
	got := all(RunQuery{Limit: 4})
	if len(got) != 25 || got[0] != "run-000024" || got[24] != "run-000000" {
		t.Errorf("pages of 4 give %v", got)
	}
	if got := all(RunQuery{Limit: 5, Environment: "dev"}); len(got) != 5 || got[0] != "run-000020" {
		t.Errorf("those of dev are %v", got)
	}
	if got := all(RunQuery{Limit: 10, Since: start.Add(23 * time.Minute)}); len(got) != 2 {
		t.Errorf("the newest are %v", got)
	}
	if got := all(RunQuery{Limit: 10, Object: "Deployment/web/other"}); len(got) != 5 {
		t.Errorf("those that changed the other are %v", got)
	}
	if _, err := l.Runs(t.Context(), RunQuery{Before: "x' OR 1"}); err == nil {
		t.Error("a cursor of nonsense is taken")
	}
}

func TestLargeRunsAreCut(t *testing.T) {
	l := running(t, Options{})
	r := testRun(1)
	big := r.Changes[0]
	big.Fields = []drift.Change{{Path: ".x", Desired: drift.NewValue(strings.Repeat("x", 4000), false)}}
	r.Changes = slices.Repeat([]reconciler.ObjectChange{big}, 5000)
	r.Errors = slices.Repeat(sources.Problems{{Message: strings.Repeat("ä", 4000)}}, 2*maxProblems)
	l.RunEnded(r)
	flush(t, l)
	got, err := l.FindRun(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Changes) == 0 || len(got.Changes)+got.MoreChanges != 5000 || len(got.Errors) != maxProblems+1 ||
		!strings.HasPrefix(got.Errors[maxProblems].Message, "and 1000 more") || len(got.Errors[0].Message) > maxText+10 {
		t.Errorf("%d changes, %d more; %d errors", len(got.Changes), got.MoreChanges, len(got.Errors))
	}
}

func TestEpisodesEndInTheirFirstRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	l, stop := begin(t, Options{Path: path})
	open := testEpisode(1)
	l.DriftSeen(open, 20*time.Millisecond)
	flush(t, l)
	if got, err := l.OpenEpisodes(t.Context()); err != nil || len(got) != 1 || got[0].ID != open.ID {
		t.Errorf("open are %v, %v", got, err)
	}
	ended := open
	ended.State, ended.Ended, ended.Occurrences = drift.Corrected, open.FirstSeen.Add(4*time.Second), 3
	l.DriftEnded(ended)
	stop()
	l = running(t, Options{Path: path})
	page, err := l.Episodes(t.Context(), EpisodeQuery{EndedOnly: true})
	if err != nil || len(page.Episodes) != 1 {
		t.Fatalf("%+v, %v", page, err)
	}
	if got := page.Episodes[0]; got.State != drift.Corrected || got.Occurrences != 3 || got.Changes[0].Live.String() != `"red"` {
		t.Errorf("episode %+v", got)
	}
	sum, err := l.Summary(t.Context(), EpisodeQuery{}, "")
	if err != nil || sum.All.Episodes != 1 || sum.All.Open != 0 || sum.All.MeanResolve != 4 || sum.All.MeanDetect != 0.02 {
		t.Errorf("summary %+v, %v", sum.All, err)
	}
}

func TestDriftIsAddedUp(t *testing.T) {
	l := running(t, Options{})
	for n := range 30 {
		e := testEpisode(n)
		e.Changes = slices.Clone(e.Changes)
		if n%3 == 0 {
			e.Changes[0].Manager, e.Cause, e.Environment = "hpa_100%", drift.Controller, "dev"
		}
		if e.Severity = drift.Medium; n == 7 {
			e.Person = &drift.Person{User: "bob"}
		}
		l.DriftSeen(e, time.Second)
		if n < 20 {
			e.State, e.Ended = drift.Corrected, e.FirstSeen.Add(2*time.Second)
			l.DriftEnded(e)
		}
	}
	flush(t, l)
	sum, err := l.Summary(t.Context(), EpisodeQuery{}, ByManager)
	if err != nil {
		t.Fatal(err)
	}
	if sum.All.Episodes != 30 || sum.All.Open != 10 || len(sum.Groups) != 2 || sum.Groups[0].Key != "kubectl-edit" ||
		sum.Groups[0].Episodes != 20 || sum.Groups[1].Episodes != 10 || len(sum.Objects) != topCount || len(sum.Managers) != 2 {
		t.Errorf("summary %+v", sum)
	}
	for by, want := range map[Grouping]int{ByCause: 2, ByEnvironment: 2, ByKind: 1, ByClass: 1, BySeverity: 1} {
		if sum, err := l.Summary(t.Context(), EpisodeQuery{}, by); err != nil || len(sum.Groups) != want {
			t.Errorf("by %s: %+v, %v", by, sum.Groups, err)
		}
	}
	for what, q := range map[string]EpisodeQuery{
		"10 by manager":     {Manager: "hpa_100%"},
		"0 by manager":      {Manager: "hpa_100x"},
		"20 by environment": {Environment: "prod"},
		"30 by kind":        {Kind: "ConfigMap"},
		"0 by kind":         {Kind: "Config"},
		"30 by class":       {Class: drift.Changed},
		"0 by class":        {Class: drift.Missing},
		"10 by name":        {Only: []string{"dev", "test"}},
		"0 by name":         {Only: []string{}},
		"30 at least":       {AtLeast: drift.Low},
		"0 at least":        {AtLeast: drift.Critical},
		"1 by person":       {Manager: "bob"},
		"5 by object":       {Object: "ConfigMap/web/c0"},
		"20 that ended":     {EndedOnly: true},
		"15 since":          {Since: start.Add(15*time.Minute + 2*time.Second)},
	} {
		var n int
		fmt.Sscan(what, &n)
		if page, err := l.Episodes(t.Context(), q); err != nil || len(page.Episodes) != n {
			t.Errorf("%s: %d, %v", what, len(page.Episodes), err)
		}
	}
	if _, err := l.Summary(t.Context(), EpisodeQuery{}, "1; DROP TABLE runs"); err == nil {
		t.Error("a grouping of nonsense is taken")
	}
}

func TestActionsAreKept(t *testing.T) {
	l := running(t, Options{})
	for n := range 5 {
		l.Record(Action{At: start.Add(time.Duration(n) * time.Hour), Actor: "ann", Verb: "hold", Environment: "prod", Reason: fmt.Sprint(n)})
	}
	l.Record(Action{At: start, Actor: "ann", Verb: "resync"})
	flush(t, l)
	first, err := l.Actions(t.Context(), ActionQuery{Environment: "prod", Limit: 3})
	if err != nil || len(first.Actions) != 3 || first.Actions[0].Reason != "4" || first.Next == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	rest, err := l.Actions(t.Context(), ActionQuery{Environment: "prod", Limit: 3, Before: first.Next})
	if err != nil || len(rest.Actions) != 2 || rest.Next != "" {
		t.Errorf("%+v, %v", rest, err)
	}
	if got, err := l.Actions(t.Context(), ActionQuery{Since: start.Add(3 * time.Hour)}); err != nil || len(got.Actions) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSecretsDoNotReachTheFile(t *testing.T) {
	dir := t.TempDir()
	l, stop := begin(t, Options{Path: filepath.Join(dir, FileName)})
	secret := []drift.Change{{
		Path: ".data.password", Desired: drift.NewValue("sentinel-desired", true), Live: drift.NewValue("sentinel-live", true), Manager: "kubectl",
	}}
	r, e := testRun(1), testEpisode(1)
	r.Changes[0].Fields, e.Changes = secret, secret
	l.RunEnded(r)
	l.DriftSeen(e, time.Second)
	flush(t, l)
	var copied bytes.Buffer
	if err := l.Backup(t.Context(), &copied); err != nil {
		t.Fatal(err)
	}
	stop()
	files := map[string][]byte{"backup": copied.Bytes()}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if files[entry.Name()], err = os.ReadFile(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Contains(files[FileName], []byte(".data.password")) {
		t.Error("the change is not in the file, so this looks at nothing")
	}
	for name, data := range files {
		if bytes.Contains(data, []byte("sentinel")) {
			t.Errorf("%s holds a secret", name)
		}
	}
}

func TestBackupComesBack(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, FileName), filepath.Join(dir, "backup.db")
	l, stop := begin(t, Options{Path: path})
	l.RunEnded(testRun(1))
	f, err := os.Create(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Backup(t.Context(), f), f.Close()); err != nil { // with what was not yet written
		t.Fatal(err)
	}
	l.RunEnded(testRun(2))
	stop()
	kept, err := Restore(t.Context(), backup, path)
	if err != nil {
		t.Fatal(err)
	}
	for file, runs := range map[string]int{path: 1, kept: 2, backup: 1} {
		if got, err := CheckFile(t.Context(), file); err != nil || got.Damage != "" || got.Runs != runs || got.Schema != len(migrations) {
			t.Errorf("%s: %+v, %v; want %d runs", file, got, err, runs)
		}
	}
	other := filepath.Join(dir, "offline.db")
	if err := BackupFile(t.Context(), path, other); err != nil {
		t.Fatal(err)
	}
	if err := BackupFile(t.Context(), path, other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second backup to one file: %v", err)
	}
	for name, content := range map[string]string{"text": "this is no database at all, by far", "empty": ""} {
		bad := filepath.Join(dir, name)
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), bad, path); err == nil || !strings.Contains(err.Error(), "cannot be restored") {
			t.Errorf("%s is restored: %v", name, err)
		}
	}
	if got, err := CheckFile(t.Context(), path); err != nil || got.Runs != 1 {
		t.Errorf("after refusing: %+v, %v", got, err)
	}
}

func TestRunsAreChosenByHowTheyEndedAndWhy(t *testing.T) {
	l := running(t, Options{})
	failed := testRun(2)
	failed.Result, failed.Trigger.Reason = reconciler.Failed, reconciler.ReasonPoll
	l.RunEnded(testRun(1))
	l.RunEnded(failed)
	flush(t, l)
	for want, q := range map[string]RunQuery{
		testRun(1).ID: {Result: reconciler.Applied}, failed.ID: {Result: reconciler.Failed, Reason: "poll"}, "": {Result: reconciler.Failed, Reason: "on-call"},
	} {
		got, err := l.Runs(t.Context(), q)
		if err != nil || len(got.Runs) > 1 || (len(got.Runs) == 1) != (want != "") || want != "" && got.Runs[0].ID != want {
			t.Errorf("%+v: %+v, %v", q, got.Runs, err)
		}
	}
}

func TestWhenObjectsWereLastAppliedIsOnRecord(t *testing.T) {
	l := running(t, Options{})
	api := testRun(1).Changes[0].Object.String()
	elsewhere, failed := testRun(3), testRun(4)
	elsewhere.Environment = "dev" // the same object of another target
	failed.Changes[0].Error = "forbidden"
	for _, r := range []reconciler.Run{testRun(1), testRun(2), elsewhere, failed} {
		l.RunEnded(r)
	}
	flush(t, l)
	got, err := l.LastApplied(t.Context(), "prod", []string{api, "ConfigMap/web/none"})
	want := map[string]Applied{api: {At: testRun(2).Finished, Run: testRun(2).ID}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if none, err := l.LastApplied(t.Context(), "prod", nil); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
	e := testEpisode(1)
	l.DriftSeen(e, time.Second)
	flush(t, l)
	if got, err := l.FindEpisode(t.Context(), e.ID); err != nil || got.Object != e.Object {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := l.FindEpisode(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a drift that is not there: %v", err)
	}
}
