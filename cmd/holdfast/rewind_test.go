package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-gitops/holdfast/cmd/internal/api"
	"github.com/holdfast-gitops/holdfast/internal/testkit/gitserver"
	"github.com/holdfast-gitops/holdfast/reconciler"
)

// A forced push back rolls nothing back: not now, not after a crash that took the
// cache with it, and not before somebody has allowed it.
func TestRewrittenHistoryIsHeldUntilItIsAllowed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, dir := hostStage(t)
	s.repo.Git(t, "", "config", "uploadpack.allowAnySHA1InWant", "true")
	first := s.repo.Commit(t, map[string]string{
		"environments/host.yaml": "apiVersion: holdfast.dev/v1alpha1\nkind: Environment\nmetadata: {name: host}\nspec: {path: files, target: host}\n",
		"files/a.yaml":           hostFile("a", "blue\n"),
	})
	second := s.repo.Commit(t, map[string]string{"files/a.yaml": hostFile("a", "green\n")})
	s.start()
	s.settled("host", reconciler.Applied)
	a, blue, green := filepath.Join(dir, "conf", "a"), "blue\n", "green\n"
	s.expectFile(a, &green)

	s.repo.ForcePush(t, gitserver.Main, first)
	receipt := s.resync("host")
	for _, part := range []string{second, first, "is held", "holdfast allow shop " + first} {
		if !strings.Contains(receipt.Errors.Error(), part) {
			t.Errorf("the receipt does not say %q: %v", part, receipt.Errors)
		}
	}
	// Drift is corrected against what is in force.
	if err := os.WriteFile(a, []byte("red\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.expectFile(a, &green)

	s.kill()
	if err := os.RemoveAll(filepath.Join(s.dir, "data", "cache")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a, []byte("red\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.expectFile(a, &green)
	s.until("the source says that a revision is held", func() error {
		source, err := s.client.Source(ctx, "shop")
		switch {
		case err != nil:
			return err
		case source.Held == nil || source.Held.To.ID != first || source.Revision.ID != second:
			return errors.New("it does not")
		}
		return nil
	})

	out, err := program("allow", "shop", first, "--reason", "the release was bad", "--data-dir", filepath.Join(s.dir, "data")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.expectFile(a, &blue)
	source, err := s.client.Source(ctx, "shop")
	if err != nil || source.Held != nil || source.Revision.ID != first || len(source.Errors) != 0 {
		t.Errorf("the source after it was allowed: %+v, %v", source, err)
	}
	s.until("it is on record", func() error {
		actions, err := s.client.Actions(ctx, api.RunsQuery{})
		if err != nil {
			return err
		}
		for _, action := range actions.Actions {
			if action.Verb == "allow" && strings.Contains(action.Subject, first) && action.Reason == "the release was bad" {
				return nil
			}
		}
		return errors.New("it is not")
	})
}
