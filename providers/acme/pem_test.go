package acme

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

// TestAnEndlessKeyIsNotChecked: the work on an RSA signature grows with the square of the
// size, so a request with a giant key is refused before its signature is looked at.
func TestAnEndlessKeyIsNotChecked(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 100_000)
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 1<<31 - 1})
	if err != nil {
		t.Fatal(err)
	}
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	type info struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}
	der, err := asn1.Marshal(struct {
		Info      info
		Algorithm algorithm
		Signature asn1.BitString
	}{
		info{Subject: asn1.RawValue{FullBytes: []byte{0x30, 0}}, Key: asn1.RawValue{FullBytes: spki}, Attributes: asn1.RawValue{FullBytes: []byte{0xa0, 0}}},
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, 12_501), BitLength: 100_008},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	if _, err := parseRequest(text, nil); err == nil || !strings.Contains(err.Error(), "100001 bits") {
		t.Errorf("got %v", err)
	}
}

// TestLongTextsAreNotDecoded: what is too long is refused as it came.
func TestLongTextsAreNotDecoded(t *testing.T) {
	text := bytes.Repeat([]byte("-----BEGIN A-----\n"), 1<<20)
	for name, parse := range map[string]func() error{
		"chain":   func() error { _, err := parseChain(text); return err },
		"request": func() error { _, err := parseRequest(text, nil); return err },
		"key":     func() error { _, err := parseKey(text); return err },
	} {
		if err := parse(); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
