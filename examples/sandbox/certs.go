package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// identity is a user of the API with a client certificate. The components have
// the names they have in any cluster, because admission policies and
// managedFields show them.
type identity struct {
	file      string
	user      string
	groups    []string
	userAgent string
}

// The identities. All are administrators: what a sandbox is for is neither the
// separation of its own components nor their exact permissions.
var (
	identityAdmin       = identity{"admin", "sandbox-admin", []string{"system:masters"}, "sandbox"}
	identityControllers = identity{"controllers", "system:kube-controller-manager", []string{"system:masters"}, "kube-controller-manager"}
	identityScheduler   = identity{"scheduler", "system:kube-scheduler", []string{"system:masters"}, "kube-scheduler"}
	identityKubelet     = identity{"kubelet", "system:node:" + nodeName, []string{"system:nodes", "system:masters"}, "kubelet"}
)

// pki is the directory of keys and certificates.
type pki struct{ dir string }

func (p *pki) cert(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p *pki) key(name string) string  { return filepath.Join(p.dir, name+".key") }

// loadPKI opens the directory of keys and certificates, creating it on the first
// start. It appears under its name only when complete, so that a kill midway
// leaves nothing that the next start would take for whole.
func loadPKI(dir string) (*pki, error) {
	if _, err := os.Stat(dir); err == nil {
		return &pki{dir}, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look for the certificates: %w", err)
	}
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return nil, fmt.Errorf("remove half-made certificates: %w", err)
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return nil, fmt.Errorf("create the certificates' directory: %w", err)
	}
	if err := createPKI(&pki{tmp}); err != nil {
		return nil, fmt.Errorf("create certificates: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("put the certificates in place: %w", err)
	}
	return &pki{dir}, nil
}

func createPKI(p *pki) error {
	caKey, caCert, err := p.issue("ca", &x509.Certificate{
		Subject:               pkix.Name{CommonName: "sandbox-ca"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}, nil, nil)
	if err != nil {
		return err
	}
	if _, _, err := p.issue("server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP(serviceIP)},
	}, caKey, caCert); err != nil {
		return err
	}
	for _, id := range []identity{identityAdmin, identityControllers, identityScheduler, identityKubelet} {
		if _, _, err := p.issue(id.file, &x509.Certificate{
			Subject:     pkix.Name{CommonName: id.user, Organization: id.groups},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, caKey, caCert); err != nil {
			return err
		}
	}
	// Service account tokens are signed with a bare key; its public half is
	// taken from a certificate file like all the others.
	_, _, err = p.issue("sa", &x509.Certificate{Subject: pkix.Name{CommonName: "service-accounts"}}, caKey, caCert)
	return err
}

// issue writes NAME.key and NAME.crt, signed by the given authority, or by
// itself without one. Certificates last longer than any sandbox.
func (p *pki) issue(name string, template *x509.Certificate, caKey crypto.Signer, ca *x509.Certificate) (crypto.Signer, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(10, 0, 0)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if ca == nil {
		ca, caKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	if err := writePEM(p.key(name), "EC PRIVATE KEY", keyDER, 0o600); err != nil {
		return nil, nil, err
	}
	if err := writePEM(p.cert(name), "CERTIFICATE", der, 0o644); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return key, cert, err
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
