package account

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
)

// Binding returns the data of a type of channel binding; nil for one that the
// connection does not have.
type Binding func(name string) []byte

// BindingOf returns the bindings of a connection whose handshake is done: to what
// both ends have negotiated, tls-exporter (RFC 9266), or tls-unique (RFC 5929 3)
// where TLS 1.2 is spoken, and to the server's certificate, tls-server-end-point
// (RFC 5929 4). cfg is what the connection was made with.
func BindingOf(t *tls.Conn, cfg *tls.Config) Binding {
	return func(name string) []byte {
		cs := t.ConnectionState()
		switch name {
		case "tls-exporter":
			if b, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32); err == nil {
				return b
			}
		case "tls-unique":
			if cs.Version <= tls.VersionTLS12 {
				return cs.TLSUnique
			}
		case "tls-server-end-point":
			if leaf := leafOf(cfg, &cs); leaf != nil {
				return endPoint(leaf)
			}
		}
		return nil
	}
}

// endPoint is the hash of a certificate, with the function of its signature but
// for those that are too weak, RFC 5929 4.1.
func endPoint(leaf *x509.Certificate) []byte {
	switch leaf.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h := sha512.Sum384(leaf.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h := sha512.Sum512(leaf.Raw)
		return h[:]
	case x509.PureEd25519: // has no hash function of its own
		return nil
	}
	h := sha256.Sum256(leaf.Raw)
	return h[:]
}

// leafOf finds the certificate that a connection was made with, as the handshake
// did: by the name that the client asked for. crypto/tls does not tell.
func leafOf(cfg *tls.Config, cs *tls.ConnectionState) *x509.Certificate {
	var cert *tls.Certificate
	switch {
	case cfg == nil:
		return nil
	case cfg.GetCertificate != nil:
		hello := &tls.ClientHelloInfo{
			ServerName: cs.ServerName, SupportedVersions: []uint16{cs.Version}, CipherSuites: []uint16{cs.CipherSuite},
			SupportedCurves: []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}, SupportedPoints: []uint8{0},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512,
				tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512, tls.Ed25519},
		}
		var err error
		if cert, err = cfg.GetCertificate(hello); err != nil || cert == nil {
			return nil
		}
	case len(cfg.Certificates) == 1:
		cert = &cfg.Certificates[0]
	default:
		return nil
	}
	if cert.Leaf != nil {
		return cert.Leaf
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}
