package specs

import (
	"strings"
	"testing"
)

// Fingerprints are stable: plans and hosts of different versions compare them.
func TestFingerprint(t *testing.T) {
	for secret, want := range map[string]string{
		"correct horse": "10fcb0b9a56744dd62be8e98659b0290",
		goodHash:        "f3325d934bd85d88c4cd888d2ae383da",
		"":              "7306142cfc74b8621b5dbee94d1cbe55",
	} {
		if got := Fingerprint(secret); got != want || strings.Contains(got, secret) && secret != "" {
			t.Errorf("Fingerprint(%q) = %s, want %s", secret, got, want)
		}
	}
}

// A password costs a lot to try, a hash, of which there may be thousands, little.
func BenchmarkFingerprint(b *testing.B) {
	for name, secret := range map[string]string{"password": "correct horse", "hash": goodHash} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Fingerprint(secret)
			}
		})
	}
}
