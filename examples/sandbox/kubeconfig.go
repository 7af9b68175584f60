package main

import (
	"fmt"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// writeKubeconfig writes a kubeconfig with the administrator's credentials in
// it, so that the one file is all that a client needs.
func writeKubeconfig(path, host string, ids *pki) error {
	var data [3][]byte
	for i, file := range []string{ids.cert("ca"), ids.cert(identityAdmin.file), ids.key(identityAdmin.file)} {
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("write the kubeconfig: %w", err)
		}
		data[i] = b
	}
	const name = "sandbox"
	c := api.NewConfig()
	c.Clusters[name] = &api.Cluster{Server: host, CertificateAuthorityData: data[0]}
	c.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: data[1], ClientKeyData: data[2]}
	c.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name, Namespace: "default"}
	c.CurrentContext = name
	b, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("encode the kubeconfig: %w", err)
	}
	if err := writeFileAtomic(path, b, 0o600); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return nil
}
