package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, next: 2}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue is a certificate and its key, PEM, with a serial number of its own.
func (a *authority) issue() (cert, key []byte, serial int64) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial = a.next
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), serial
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func put(t *testing.T, path string, data []byte) {
	t.Helper()
	// A file beside it takes its place, as Kubernetes and certbot do it.
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestCertificatesAreReloaded(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	files := TLS{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), ClientCAFile: filepath.Join(dir, "ca")}
	if _, err := NewTLS(files, zerolog.Nop()); err == nil {
		t.Error("files that are not there are no error")
	}
	cert, key, serial := ca.issue()
	put(t, files.CertFile, cert)
	put(t, files.KeyFile, key)
	put(t, files.ClientCAFile, ca.pem())
	config, err := NewTLS(files, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s := testServer(newFake("dev"), Options{TLS: config, ClientCertificates: true})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	get := func(path string, client ...tls.Certificate) (status int, serial int64) {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: client}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.ProtoMajor != 2 {
			t.Errorf("spoke %s", res.Proto)
		}
		return res.StatusCode, res.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if status, got := get("/api/v1/environments"); status != 403 || got != serial {
		t.Errorf("without a certificate: %d by %d", status, got)
	}
	if status, _ := get("/healthz"); status != 200 {
		t.Errorf("a probe: %d", status)
	}
	clientCert, clientKey, _ := ca.issue()
	pair, err := tls.X509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := get("/api/v1/environments", pair); status != 200 {
		t.Errorf("with a certificate: %d", status)
	}

	cert, key, next := ca.issue()
	put(t, files.CertFile, cert) // its key is not there yet
	if _, got := get("/healthz"); got != serial {
		t.Errorf("in the middle of a rotation: %d", got)
	}
	put(t, files.KeyFile, key)
	if _, got := get("/healthz"); got != next {
		t.Errorf("after the rotation: %d, want %d", got, next)
	}
}
