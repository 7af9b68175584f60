package redact_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-gitops/holdfast/internal/redact"
)

func TestScrubTakesOutEveryFormOfAValue(t *testing.T) {
	var r redact.Redactor
	r.Add([]byte("correct-horse"), []byte("one line\nanother line\n"), []byte("short"), []byte("correct-horse-battery"),
		[]byte(`it "is" <one> & \two`), []byte("first \"line\"\nsecond <line>"))
	for text, want := range map[string]string{
		"value correct-horse is wrong":                   "value *** is wrong",
		"value correct-horse-battery is wrong":           "value *** is wrong",
		"Y29ycmVjdC1ob3JzZQ== is not a number":           "*** is not a number",
		"expected int, got another line":                 "expected int, got ***",
		`{"a":"one line\nanother line"}`:                 `{"a":"***"}`,
		`{"a":"it \"is\" <one> & \\two"}`:                `{"a":"***"}`,
		`{"a":"it \"is\" \u003cone\u003e \u0026 \\two"}`: `{"a":"***"}`,
		`{"a":"first \"line\""}`:                         `{"a":"***"}`,
		`{"a":"first \"line\"\nsecond <line>"}`:          `{"a":"***"}`,
		"short stays, since it is in many words":         "short stays, since it is in many words",
	} {
		if got := r.Scrub(text); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
	if !r.Contains([]byte("xx correct-horse xx")) || r.Contains([]byte("nothing here")) {
		t.Error("Contains is wrong")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var r redact.Redactor
	for c := range 40 {
		r.Add([]byte(strings.Repeat(string(rune('a'+c)), 1<<20)))
	}
	if r.Contains([]byte(strings.Repeat("a", 1<<20))) {
		t.Error("the first value is still known")
	}
	if !r.Contains([]byte(strings.Repeat(string(rune('a'+39)), 1<<20))) {
		t.Error("the last value is not known")
	}
}

func TestConcurrentUse(t *testing.T) {
	var r redact.Redactor
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 50 {
				r.Add([]byte(strings.Repeat("x", 6+i*50+j)))
				r.Scrub("some text xxxxxxxxxx")
			}
		})
	}
	all.Wait()
	if r.Empty() {
		t.Error("nothing is known")
	}
}
