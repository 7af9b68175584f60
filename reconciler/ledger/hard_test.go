package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/holdfast-gitops/holdfast/drift"
	"github.com/holdfast-gitops/holdfast/sources"
)

// child plays a role in a process of its own and returns its exit code.
func child(role, path string) int {
	var err error
	switch role {
	case "writer":
		err = writeForEver(path)
	case "full":
		err = fillDisk(path)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// as starts this binary in a role.
func as(t *testing.T, role, path string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_LEDGER="+role, "HOLDFAST_TEST_LEDGER_FILE="+path)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	return cmd, &errs
}

// writeForEver records runs and drift, and says which are on the disk.
func writeForEver(path string) error {
	ctx := context.Background()
	l := Open(ctx, Options{Path: path, Log: zerolog.New(os.Stderr), MaxAge: 100 * 365 * 24 * time.Hour})
	go func() { _ = l.Run(ctx) }() // it never returns: the process is killed
	known, err := l.LastRuns(ctx)
	if err != nil {
		return err
	}
	first := 1
	if last, ok := known["prod"]; ok {
		fmt.Sscanf(last.ID, "run-%d", &first)
		first++
	}
	for n := first; ; n++ {
		l.RunEnded(testRun(n))
		e := testEpisode(n)
		l.DriftSeen(e, time.Second)
		if n%3 == 0 {
			if err := l.Flush(ctx); err != nil {
				return err
			}
			fmt.Println(n)
		}
	}
}

func TestKilledInMidWriteKeepsWhatWasAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	acknowledged := 0
	for range 5 {
		cmd, errs := as(t, "writer", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(20) {
			if !lines.Scan() {
				t.Fatalf("the writer ended: %s", errs)
			}
			fmt.Sscan(lines.Text(), &acknowledged)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it died counts
			fmt.Sscan(lines.Text(), &acknowledged)
		}
		_ = cmd.Wait() // "killed" is what it says
		l, stop := begin(t, Options{Path: path, MaxAge: 100 * 365 * 24 * time.Hour})
		for n := acknowledged; n > max(0, acknowledged-5); n-- {
			if r, err := l.FindRun(t.Context(), testRun(n).ID); err != nil || len(r.Changes) != 1 {
				t.Errorf("run %d: %v, %d changes", n, err, len(r.Changes))
			}
		}
		sum, err := l.Summary(t.Context(), EpisodeQuery{}, "")
		if err != nil || sum.All.Episodes < acknowledged {
			t.Errorf("%d of %d episodes, %v", sum.All.Episodes, acknowledged, err)
		}
		stop()
		if s := l.Stats(); s.SetAside != "" || s.Errors != 0 {
			t.Errorf("after the kill: %+v", s)
		}
	}
	if got, err := CheckFile(t.Context(), path); err != nil || got.Damage != "" || got.Runs < acknowledged {
		t.Errorf("%+v, %v; %d were acknowledged", got, err, acknowledged)
	}
}

// fillDisk has a ledger meet a limit on its file, go on, and recover.
func fillDisk(path string) error {
	signal.Ignore(unix.SIGXFSZ) // as a full disk does, the limit shall only fail the write
	ctx := context.Background()
	var log bytes.Buffer
	l := Open(ctx, Options{Path: path, Log: zerolog.New(&log), Now: func() time.Time { return start }, retry: 10 * time.Millisecond})
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(runCtx) }()
	l.RunEnded(testRun(1))
	if err := l.Flush(ctx); err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	full := unix.Rlimit{Cur: 256 << 10, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		return err
	}
	const total = maxQueuedRuns + 500
	for n := 2; n <= total; n++ { // none of these may wait
		l.RunEnded(testRun(n))
		l.DriftSeen(testEpisode(n), time.Second)
	}
	if err := l.Flush(ctx); err == nil {
		return errors.New("the disk is full, and all was written")
	}
	s := l.Stats()
	if s.Problem == "" || s.Errors == 0 || s.QueuedRuns == 0 {
		return fmt.Errorf("nothing is said of the full disk: %+v", s)
	}
	if page, err := l.Runs(ctx, RunQuery{}); err != nil || len(page.Runs) == 0 {
		return fmt.Errorf("what is there cannot be read: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := l.Flush(ctx); err != nil {
		return fmt.Errorf("there is room again: %w", err)
	}
	s = l.Stats()
	if s.Problem != "" || s.QueuedRuns != 0 {
		return fmt.Errorf("after it recovered: %+v", s)
	}
	cancel()
	if err := <-ended; err != nil {
		return err
	}
	got, err := CheckFile(ctx, path)
	lost := 0
	for _, g := range got.Gaps {
		lost += g.Runs
	}
	if err != nil || got.Damage != "" || got.Runs+lost != total || got.Episodes != total-1 || int64(lost) != s.LostRuns {
		return fmt.Errorf("%+v, %w; %d runs lost", got, err, lost)
	}
	if text := log.String(); !strings.Contains(text, "ledger cannot be written") || !strings.Contains(text, "written again") {
		return fmt.Errorf("the log says:\n%s", text)
	}
	return nil
}

func TestFullDiskIsSaidAndOutlived(t *testing.T) {
	cmd, errs := as(t, "full", filepath.Join(t.TempDir(), FileName))
	if err := cmd.Run(); err != nil {
		t.Errorf("%v: %s", err, errs)
	}
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	damages := map[string]func(data []byte) []byte{
		"no database": func([]byte) []byte { return bytes.Repeat([]byte("nonsense"), 5000) },
		"cut off":     func(data []byte) []byte { return data[:len(data)/2] },
		"a hole": func(data []byte) []byte {
			copy(data[4096:], make([]byte, len(data)-4096))
			return data
		},
		"a flipped page": func(data []byte) []byte {
			for i := 2 * 4096; i < 5*4096; i++ {
				data[i] ^= 0x5a
			}
			return data
		},
	}
	for name, spoil := range damages {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), FileName)
			l, stop := begin(t, Options{Path: path})
			for n := range 50 {
				l.RunEnded(testRun(n))
				l.DriftSeen(testEpisode(n), time.Second)
			}
			stop()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := spoil(bytes.Clone(data))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := CheckFile(t.Context(), path); err != nil || got.Damage == "" {
				t.Errorf("the check finds nothing: %+v, %v", got, err)
			}
			l = running(t, Options{Path: path})
			aside := l.Stats().SetAside
			if kept, err := os.ReadFile(aside); err != nil || !bytes.Equal(kept, bad) || !strings.Contains(aside, ".corrupt-") {
				t.Fatalf("set aside is %q, %v; want the file as it was", aside, err)
			}
			l.RunEnded(testRun(1))
			flush(t, l)
			if page, err := l.Runs(t.Context(), RunQuery{}); err != nil || len(page.Runs) != 1 {
				t.Errorf("the new file has %d runs, %v", len(page.Runs), err)
			}
		})
	}
}

func TestDamageWhileRunningBeginsANewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	l := running(t, Options{Path: path})
	for n := range 300 {
		l.RunEnded(testRun(n))
	}
	flush(t, l)
	// What is in the journal goes into the file, then every page but the first
	// is spoilt.
	if err := readAll(t.Context(), l.write, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, int(info.Size())-4096), 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// The writer has sound copies of the pages; who reads meets the others.
	if _, err := l.Runs(t.Context(), RunQuery{Limit: MaxLimit}); !isDamage(err) {
		t.Errorf("reading the spoilt file: %v", err)
	}
	flush(t, l)
	if s := l.Stats(); s.SetAside == "" || s.Problem != "" {
		t.Fatalf("the damage is not noticed: %+v", s)
	}
	last := testRun(1000)
	l.RunEnded(last)
	flush(t, l)
	if _, err := l.FindRun(t.Context(), last.ID); err != nil {
		t.Errorf("the new file: %v", err)
	}
}

func TestOlderSchemasAreMigratedAndKept(t *testing.T) {
	for old := 1; old < len(migrations); old++ {
		path := filepath.Join(t.TempDir(), FileName)
		db, err := openFile(path, writing, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := migrate(t.Context(), db, 0, old); err != nil {
			t.Fatal(err)
		}
		row, err := encodeRun(testRun(7))
		if err != nil {
			t.Fatal(err)
		}
		w := &writer{Ledger: &Ledger{write: db}}
		if err := w.transaction(t.Context(), batch{runs: []*runRow{row}}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		l := running(t, Options{Path: path})
		if r, err := l.FindRun(t.Context(), testRun(7).ID); err != nil || len(r.Changes) != 1 {
			t.Errorf("from %d: %v", old, err)
		}
		l.DriftSeen(testEpisode(1), time.Second)
		l.Record(Action{At: start, Actor: "ann", Verb: "hold"})
		flush(t, l)
		kept := asides(path, fmt.Sprintf("schema%d", old))
		if len(kept) != 1 {
			t.Fatalf("from %d: kept are %v", old, kept)
		}
		if got, err := CheckFile(t.Context(), kept[0]); err != nil || got.Damage != "" || got.Schema != old || got.Runs != 1 {
			t.Errorf("from %d: the old file is %+v, %v", old, got, err)
		}
		if got, err := CheckFile(t.Context(), path); err != nil || got.Schema != len(migrations) || got.Episodes != 1 || got.Actions != 1 {
			t.Errorf("from %d: the new file is %+v, %v", old, got, err)
		}
	}
}

func TestANewerFileIsKeptForItsProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	l, stop := begin(t, Options{Path: path})
	l.RunEnded(testRun(1))
	stop()
	db, err := openFile(path, writing, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l = running(t, Options{Path: path})
	if aside := l.Stats().SetAside; !strings.Contains(aside, ".newer-") {
		t.Errorf("set aside is %q", aside)
	}
}

func TestAFolderThatCannotBeWrittenIsNotFatal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, FileName)
	l := running(t, Options{Path: path, retry: time.Millisecond})
	if s := l.Stats(); s.Problem == "" {
		t.Errorf("stats %+v", s)
	}
	if _, err := l.Runs(t.Context(), RunQuery{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("reading says %v", err)
	}
	l.RunEnded(testRun(1))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	flush(t, l)
	if _, err := l.FindRun(t.Context(), testRun(1).ID); err != nil {
		t.Errorf("when it can be written: %v", err)
	}
}

func TestRecordsAreDeletedByAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	l, stop := begin(t, Options{Path: path})
	for n := range 700 {
		l.RunEnded(testRun(n))
		e := testEpisode(n)
		l.DriftSeen(e, time.Second)
	}
	ended := testEpisode(5) // seen long ago, ended lately
	ended.State, ended.Ended = drift.Corrected, start.Add(695*time.Minute)
	l.DriftEnded(ended)
	l.Record(Action{At: start, Actor: "ann", Verb: "hold"})
	flush(t, l) // what a stop writes is bounded by time
	stop()
	now := func() time.Time { return start.Add(24 * time.Hour) }
	l = running(t, Options{Path: path, Now: now, MaxAge: 24*time.Hour - 690*time.Minute})
	flush(t, l) // the writer tidies before it does anything else
	got, err := CheckFile(t.Context(), path)
	if err != nil || got.Runs != 10 || got.Episodes != 11 || got.Actions != 0 {
		t.Errorf("left are %+v, %v", got, err)
	}
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var orphans int
	if err := l.read.QueryRow("SELECT count(*) FROM changes WHERE run NOT IN (SELECT seq FROM runs)").Scan(&orphans); err != nil || orphans != 0 {
		t.Errorf("%d changes without a run, %v", orphans, err)
	}
}

func TestRecordsAreDeletedBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), FileName)
	const limit = 1 << 20
	clock := start
	l, stop := begin(t, Options{Path: path, MaxBytes: limit})
	for n := range 2000 {
		r := testRun(n)
		r.Changes[0].Error = strings.Repeat("x", 1000)
		l.RunEnded(r)
		if n%200 == 0 {
			flush(t, l)
		}
	}
	stop()
	before, err := os.Stat(path)
	if err != nil || before.Size() < 2*limit {
		t.Fatalf("the file has %d bytes, %v; too few to show anything", before.Size(), err)
	}
	l = running(t, Options{Path: path, MaxBytes: limit, Now: func() time.Time { return clock }})
	flush(t, l)
	after, err := os.Stat(path)
	if err != nil || after.Size() > limit {
		t.Errorf("the file has %d bytes of %d, %v", after.Size(), limit, err)
	}
	page, err := l.Runs(t.Context(), RunQuery{Limit: 1})
	if err != nil || len(page.Runs) != 1 || page.Runs[0].ID != testRun(1999).ID {
		t.Errorf("the newest is %+v, %v", page.Runs, err)
	}
	if got, err := CheckFile(t.Context(), path); err != nil || got.Damage != "" || got.Runs < 200 {
		t.Errorf("left are %+v, %v", got, err)
	}
}

func TestAFullQueueLosesNothingUncounted(t *testing.T) {
	q := newQueue()
	q.setFailing(true)
	for n := range maxQueuedEpisodes + 50 {
		e := testEpisode(n)
		e.Object = sources.ID{Kind: "ConfigMap", Name: fmt.Sprint(n)}
		q.addEpisode(e, time.Second)
	}
	again := testEpisode(maxQueuedEpisodes * 2)
	again.Object = sources.ID{Kind: "ConfigMap", Name: "3"}
	q.addEpisode(again, time.Second)
	again.State = drift.Corrected
	q.addEpisode(again, 0)
	for n := range maxQueuedRuns + 20 {
		row, err := encodeRun(testRun(n))
		if err != nil {
			t.Fatal(err)
		}
		q.addRun(row, "prod", testRun(n).Started)
	}
	var s Stats
	q.stats(&s)
	if s.QueuedEpisodes != maxQueuedEpisodes || s.QueuedRuns != maxQueuedRuns || s.LostEpisodes != 50 || s.LostRuns != 20 {
		t.Errorf("%+v", s)
	}
	if row := q.episodes[testEpisode(3).ID]; row.Occurrences != 2 || row.State != drift.Corrected {
		t.Errorf("the third thing's drifts are not one: %+v", row)
	}
	first := q.peek()
	q.addEpisode(func() drift.Episode { e := testEpisode(0); e.State = drift.Corrected; return e }(), 0)
	q.done(first)
	if second := q.peek(); second.gap != (gap{}) || !slices.Contains(q.order, testEpisode(0).ID) {
		t.Errorf("after a write: gap %+v; the drift that ended meanwhile must stay", second.gap)
	}
}
