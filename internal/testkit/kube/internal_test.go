package kube

import (
	"net/http/httptest"
	"testing"
)

func TestCallOfTakesPathsApart(t *testing.T) {
	for _, test := range []struct{ method, target, contentType, want string }{
		{"GET", "/api/v1/namespaces/web/configmaps/x", "", "get configmaps/web/x"},
		{"GET", "/api/v1/namespaces/web", "", "get namespaces/web"},
		{"PUT", "/api/v1/namespaces/web/finalize", "", "update namespaces/web/finalize"},
		{"GET", "/api/v1/namespaces", "", "list namespaces"},
		{"GET", "/api/v1/configmaps?watch=true", "", "watch configmaps"},
		{"GET", "/api/v1/configmaps?limit=5", "", "list configmaps"},
		{"PATCH", "/apis/apps/v1/namespaces/web/deployments/api/scale", "application/merge-patch+json", "patch deployments.apps/web/api/scale"},
		{"PATCH", "/apis/apps/v1/namespaces/web/deployments/api?dryRun=All", "application/apply-patch+yaml", "apply deployments.apps/web/api (dry run)"},
		{"DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "", "deletecollection clusterroles.rbac.authorization.k8s.io"},
		{"POST", "/apis/example.org/v1/things", "", "create things.example.org"},
		{"GET", "/apis/apps/v1", "", "get /apis/apps/v1"},
		{"GET", "/apis", "", "get /apis"},
		{"GET", "/openapi/v3", "", "get /openapi/v3"},
	} {
		r := httptest.NewRequest(test.method, test.target, nil)
		r.Header.Set("Content-Type", test.contentType)
		if got := callOf(r).String(); got != test.want {
			t.Errorf("%s %s = %q, want %q", test.method, test.target, got, test.want)
		}
	}
}

func TestNamespaceNamesAreValidAndUnique(t *testing.T) {
	const test = "TestABC/with_a very-long-name#and/more_of it than a namespace can hold"
	a, b := namespaceName(test), namespaceName(test)
	if a == b {
		t.Errorf("%s twice", a)
	}
	if len(a) > 63 || a[:14] != "testabc-with-a" {
		t.Errorf("name %q", a)
	}
}

func TestParseRequestsSumsOverOtherLabels(t *testing.T) {
	got, err := parseRequests([]byte(`# HELP apiserver_request_total Counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="apps",resource="deployments",scope="resource",subresource="",verb="APPLY",version="v1"} 1.5e+03
apiserver_request_total{code="200",component="apiserver",dry_run="All",group="apps",resource="deployments",scope="resource",subresource="",verb="APPLY",version="v1"} 2
apiserver_request_total{code="200",component="",dry_run="",group="",resource="",scope="",subresource="/healthz",verb="GET",version=""} 7
other_total{code="200"} 3
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Request{Verb: "APPLY", Group: "apps", Resource: "deployments", Code: "200"}
	if len(got) != 1 || got[want] != 1502 {
		t.Errorf("counts:\n%s", got)
	}
}
