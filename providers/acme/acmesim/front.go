package acmesim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Paths of Pebble's front end that are looked at or served here.
const (
	newOrderPath       = "/order-plz"
	newAccountPath     = "/sign-me-up"
	finalizePath       = "/finalize-order/"
	renewalInfoPath    = "/draft-ietf-acme-ari-03/renewalInfo/"
	setRenewalInfoPath = "/set-renewal-info/"
)

// Counts is what the authority has done so far.
type Counts struct {
	Orders       int // orders made
	Certificates int // certificates issued
	Accounts     int // accounts made
}

// Counts returns what was done since the authority was started.
func (s *Server) Counts() Counts {
	s.counter.mu.Lock()
	defer s.counter.mu.Unlock()
	return s.counter.Counts
}

// MoveWindow changes the time in which the authority suggests to renew a
// certificate (RFC 9773 4.2), as before a revocation of many. explanation is the
// URL of a page about it and may be "". The same can be done from outside by
// POSTing {"Certificate": PEM, "ARIResponse": TEXT} to /set-renewal-info/.
func (s *Server) MoveWindow(serialHex string, start, end time.Time, explanation string) error {
	serial, ok := new(big.Int).SetString(serialHex, 16)
	if !ok {
		return fmt.Errorf("simulated CA: %q is not a serial number", serialHex)
	}
	type window struct {
		Start time.Time `json:"start"`
		End   time.Time `json:"end"`
	}
	text, err := json.Marshal(struct {
		SuggestedWindow window `json:"suggestedWindow"`
		ExplanationURL  string `json:"explanationURL,omitempty"`
	}{window{start.UTC(), end.UTC()}, explanation})
	if err != nil {
		return err
	}
	return s.SetRenewalInfo(serial, string(text))
}

// SetRenewalInfo sets the authority's answer about a certificate to any text.
func (s *Server) SetRenewalInfo(serial *big.Int, text string) error {
	if s.store.GetCertificateBySerial(serial) == nil {
		return errors.New("simulated CA: it did not issue a certificate with that serial number")
	}
	return s.store.SetARIResponse(serial, text)
}

type counter struct {
	mu sync.Mutex
	Counts
}

func (c *counter) saw(r *http.Request, status int) {
	if r.Method != http.MethodPost {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case r.URL.Path == newOrderPath && status == http.StatusCreated:
		c.Orders++
	case strings.HasPrefix(r.URL.Path, finalizePath) && status == http.StatusOK:
		c.Certificates++
	case r.URL.Path == newAccountPath && status == http.StatusCreated:
		c.Accounts++
	}
}

// front stands before Pebble: it counts, and says how soon the authority wants to
// be asked again about a renewal (Pebble itself always says six hours).
func (s *Server) front(pebble, management http.Handler, askAgain time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, setRenewalInfoPath) {
			management.ServeHTTP(w, r)
			return
		}
		out := &answer{ResponseWriter: w, status: http.StatusOK}
		if strings.HasPrefix(r.URL.Path, renewalInfoPath) && askAgain > 0 {
			out.retryAfter = strconv.Itoa(int(askAgain / time.Second))
		}
		if r.URL.Path == newAccountPath {
			// Pebble goes on writing to an account that others find by its key already.
			s.accounts.Lock()
			defer s.accounts.Unlock()
		}
		pebble.ServeHTTP(out, r)
		s.counter.saw(r, out.status)
	})
}

type answer struct {
	http.ResponseWriter
	retryAfter string
	status     int
	begun      bool
}

func (a *answer) WriteHeader(status int) {
	if !a.begun {
		a.begun, a.status = true, status
		if a.retryAfter != "" && status == http.StatusOK {
			a.Header().Set("Retry-After", a.retryAfter)
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if !a.begun {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}
