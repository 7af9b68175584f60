package kube

import (
	"strings"
	"testing"
)

func TestAValueOfTheWrongTypeIsToldForPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	out := w.run(w.items("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: typed, namespace: NS}\ndata: {debug: yes}\n"))
	if got := out.errors(); !strings.Contains(got, ".data.debug: expected string, got true (put the value in quotes)") {
		t.Errorf("got %s", got)
	}
}
