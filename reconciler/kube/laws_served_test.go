package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-gitops/holdfast/internal/testkit/kube"
)

// lawless are the kinds that the laws are not held against, with the reason.
var lawless = map[string]string{
	"PodCertificateRequest.certificates.k8s.io": "made by kubelets for a pod on their node, with proof that they have its key; nobody else may write one",
}

// Every built-in kind that the server serves, and that can be applied and watched, is
// among those that the laws of detection are held against, or has a reason not to be.
func TestLawsCoverWhatIsServed(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for _, doc := range lawKinds(t) {
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		covered[schema.FromAPIVersionAndKind(head.APIVersion, head.Kind).GroupKind().String()] = true
	}
	config := kube.Config(t)
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	// What the server brings by itself, and no definition of a test.
	services := schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	list, err := objects.Resource(services).List(t.Context(), metav1.ListOptions{LabelSelector: "kube-aggregator.kubernetes.io/automanaged=onstart"})
	if err != nil {
		t.Fatal(err)
	}
	// The aggregator does not register itself.
	versions := []string{"apiregistration.k8s.io/v1"}
	for _, s := range list.Items {
		version, group, _ := strings.Cut(s.GetName(), ".")
		versions = append(versions, schema.GroupVersion{Group: group, Version: version}.String())
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, version := range versions {
		resources, err := client.ServerResourcesForGroupVersion(version)
		if err != nil {
			t.Fatal(err)
		}
		gv, _ := schema.ParseGroupVersion(version)
		for _, r := range resources.APIResources {
			lacks := func(verb string) bool { return !slices.Contains(r.Verbs, verb) }
			if strings.Contains(r.Name, "/") || slices.ContainsFunc([]string{"create", "patch", "list", "watch"}, lacks) {
				continue
			}
			gk := schema.GroupKind{Group: gv.Group, Kind: r.Kind}.String()
			served[gk] = true
			if !covered[gk] && lawless[gk] == "" {
				t.Errorf("no law is held against %s, in %s", gk, version)
			}
		}
	}
	for gk := range covered {
		if !served[gk] || lawless[gk] != "" {
			t.Errorf("%s: served %v, and said to be without law: %q", gk, served[gk], lawless[gk])
		}
	}
	if len(served) < 50 {
		t.Errorf("only %d kinds are served", len(served))
	}
}

// filler is what puts into a manifest what cannot be written down in it: the namespace,
// addresses of its own, a certificate, and a request for one.
func filler(t *testing.T) func(text, namespace string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.Name{CommonName: "law"}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, key); err != nil {
		t.Fatal(err)
	}
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return func(text, namespace string) string {
		sum := sha256.Sum256([]byte(namespace))
		text = strings.ReplaceAll(text, "NS", namespace)
		return strings.NewReplacer(
			"OWNIP", fmt.Sprintf("fd77:%x:%x", int(sum[0])<<8|int(sum[1])|0x1000, int(sum[2])<<8|int(sum[3])|0x1000),
			"CSRDATA", base64.StdEncoding.EncodeToString(request),
			"CERTDATA", strings.ReplaceAll(certificate, "\n", `\n`),
			"CABUNDLE", base64.StdEncoding.EncodeToString([]byte(certificate)),
		).Replace(text)
	}
}
