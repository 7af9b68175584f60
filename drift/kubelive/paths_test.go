package kubelive

import (
	"encoding/json"
	"testing"
)

const pathObject = `{"metadata":{"labels":{"a.b/c":"1","a":"2"}},"spec":{"replicas":3,"list":[1,2],` +
	`"containers":[{"name":"web","image":"w:1","ports":[{"containerPort":80,"protocol":"TCP","x":1}]},{"name":"side","image":"s:1"}]}}`

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	v, err := decodeExact([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func TestPathsAreTakenAndLeftOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, taken string }{
		{".spec.replicas", `{"spec":{"replicas":3}}`},
		{`.metadata.labels.a.b/c`, `{"metadata":{"labels":{"a.b/c":"1"}}}`},
		{`.metadata.labels["a.b/c"]`, `{"metadata":{"labels":{"a.b/c":"1"}}}`},
		{`.spec.containers[name="web"].image`, `{"spec":{"containers":[{"image":"w:1","name":"web"}]}}`},
		{`.spec.containers[name=side].image`, `{"spec":{"containers":[{"image":"s:1","name":"side"}]}}`},
		{`.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"].x`,
			`{"spec":{"containers":[{"name":"web","ports":[{"containerPort":80,"protocol":"TCP","x":1}]}]}}`},
		{`.spec.list[1]`, `{"spec":{"list":[1,2]}}`},
		{`.spec.none`, `{}`},
		{`.spec.containers[name=none].image`, `{}`},
	} {
		object, to := decoded(t, pathObject), map[string]any{}
		Take(to, object, c.path)
		if raw, _ := json.Marshal(to); string(raw) != c.taken {
			t.Errorf("%s: took %s, want %s", c.path, raw, c.taken)
		}
		wasThere := Has(object, c.path)
		Without(object, c.path)
		if Has(object, c.path) && c.path != `.spec.list[1]` || wasThere != (c.taken != `{}`) {
			t.Errorf("%s: there %v, and still after it was left out", c.path, wasThere)
		}
	}
}

func TestTakingIntoAnObjectKeepsTheRest(t *testing.T) {
	t.Parallel()
	to, from := decoded(t, pathObject), decoded(t, pathObject)
	from["spec"].(map[string]any)["containers"].([]any)[1].(map[string]any)["image"] = "s:2"
	delete(from["spec"].(map[string]any), "replicas")
	Take(to, from, ".spec.containers[name=side].image")
	Take(to, from, ".spec.replicas")
	want := decoded(t, pathObject)
	want["spec"].(map[string]any)["containers"].([]any)[1].(map[string]any)["image"] = "s:2"
	delete(want["spec"].(map[string]any), "replicas")
	got, _ := json.Marshal(to)
	if expected, _ := json.Marshal(want); string(got) != string(expected) {
		t.Errorf("got %s", got)
	}
}
