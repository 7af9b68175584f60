package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// stepTime bounds one step of the tour.
const stepTime = 90 * time.Second

// told is what a step has to tell: the time that matters, and lines of detail.
type told struct {
	took time.Duration
	said []string
}

// step is one part of the story.
type step struct {
	title string
	play  func(context.Context, *guide) (told, error)
}

var steps = []step{
	{"all environments are applied", allApplied},
	{"an edit by hand is healed, and reported with who did it", editIsHealed},
	{"a deleted object comes back", deletedComesBack},
	{"a commit is applied", commitIsApplied},
	{"what left git is deleted", removedIsPruned},
	{"what is not ours stays as it is", foreignStays},
	{"a resync with nothing changed sends no request", resyncIsSilent},
	{"a broken commit is refused by file and line, and the rest goes on", brokenIsRefused},
	{"killed in the middle of a change, it converges", killedConverges},
}

// tour plays the story and fails with the first step that does.
func tour(ctx context.Context) (err error) {
	s, err := open(ctx, options{dir: ".demo/tour", listen: "127.0.0.1:0", interval: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	g := &guide{stage: s}
	if err := g.prepare(ctx); err != nil {
		return err
	}
	began := time.Now()
	for i, step := range steps {
		if err := g.play(ctx, i+1, step); err != nil {
			return fmt.Errorf("step %d, %s: %w\nthe end of the daemon's log, %s:\n%s", i+1, step.title, err, s.daemon.LogFile, s.daemon.LastLog())
		}
	}
	fmt.Printf("\n%d steps passed in %.1f s\n", len(steps), time.Since(began).Seconds())
	return nil
}

func (g *guide) play(ctx context.Context, number int, s step) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stepTime, fmt.Errorf("gave up after %s", stepTime))
	defer cancel()
	out, err := s.play(ctx, g)
	mark := "ok  "
	if err != nil {
		mark = "FAIL"
	}
	fmt.Fprintf(os.Stdout, "\n%s %d. %-66s %8.3f s\n", mark, number, s.title, out.took.Seconds())
	for _, line := range out.said {
		fmt.Println("        " + strings.ReplaceAll(line, "\n", "\n        "))
	}
	return err
}
