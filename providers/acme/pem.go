package acme

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// fits checks that the CA certified what was asked for.
func fits(leaf *x509.Certificate, csr *x509.CertificateRequest, names []string) error {
	type comparable interface{ Equal(crypto.PublicKey) bool }
	if k, ok := leaf.PublicKey.(comparable); !ok || !k.Equal(csr.PublicKey) {
		return &refusedError{"the certificate is for another key than the one asked for"}
	}
	for _, n := range names {
		if !slices.Contains(leaf.DNSNames, n) {
			return &refusedError{fmt.Sprintf("the certificate does not name %s, only %s", n, strings.Join(leaf.DNSNames, ", "))}
		}
	}
	return nil
}

// Bounds of what is read: a chain's and a request's size are those of many names, a
// key's that of RSA with maxRSA bits. The arithmetic of longer keys takes seconds to minutes.
const (
	maxChain   = 256 << 10
	maxRequest = 64 << 10
	maxKey     = 8 << 10
	maxRSA     = 8192
)

// parseChain reads a PEM chain and returns its leaf.
func parseChain(text []byte) (*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, errors.New("the chain is too long")
	}
	var leaf *x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the chain holds a %s", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the chain: %w", err)
		}
		if leaf == nil {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, errors.New("the chain is empty")
	}
	return leaf, nil
}

// parseRequest reads a PKCS #10 request and checks that it asks for the names.
func parseRequest(text []byte, names []string) (*x509.CertificateRequest, error) {
	if len(text) > maxRequest {
		return nil, errors.New("the host's signing request is too long")
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("the host did not answer with a signing request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the host's signing request: %w", err)
	}
	if k, ok := csr.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
		return nil, fmt.Errorf("the host's signing request has an RSA key of %d bits, more than %d", k.N.BitLen(), maxRSA)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the host's signing request: %w", err)
	}
	have, want := slices.Sorted(slices.Values(csr.DNSNames)), slices.Sorted(slices.Values(names))
	if !slices.Equal(have, want) {
		return nil, fmt.Errorf("the host's signing request is for %v, not for %v", have, want)
	}
	return csr, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	if len(text) > maxKey {
		return nil, errors.New("it is too long for a key")
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is not a PKCS #8 key") // the cause may quote key bytes
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("it cannot sign")
	}
	return signer, nil
}
