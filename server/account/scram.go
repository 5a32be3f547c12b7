package account

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The names of the mechanisms, RFC 7677.
const (
	SCRAM     = "SCRAM-SHA-256"
	SCRAMPlus = "SCRAM-SHA-256-PLUS"
)

// Mechanisms lists those that clients are shown, the best first. scram says that
// SCRAM is among them, and bound that its form with a channel binding is.
func Mechanisms(scram, bound bool) []string {
	l := []string{"PLAIN", "LOGIN"}
	if scram {
		l = append([]string{SCRAM}, l...)
		if bound {
			l = append([]string{SCRAMPlus}, l...)
		}
	}
	return l
}

// ErrExchange says that a client's message is not one of the mechanism's. It says
// nothing about the password.
var ErrExchange = errors.New("malformed authentication exchange")

// Bounds of what a client sends, in octets.
const (
	maxSCRAM = 2048 // a message: the data of a channel binding are the longest part
	maxNonce = 256
	maxLogin = 320
)

// Exchange is the server's side of a login that takes several messages. Next has
// the shape of go-sasl's Server: it takes what the client says and returns the
// answer, until done; nil begins an exchange without an initial response.
type Exchange interface {
	// Next fails with ErrCredentials or ErrExchange, wrapped; other errors say
	// nothing about the login. All of them end the exchange.
	Next(response []byte) (challenge []byte, done bool, err error)
	// Login is the name that the client wants to log in with, once it has said so.
	Login() string
	// Account is the account that the client has logged in to; "" before the end.
	Account() string
}

// SCRAMLogins is how a service lets people log in by SCRAM.
type SCRAMLogins interface {
	// Shown says whether a client is shown the mechanism now. One for which it has
	// just failed is not, so that it goes on by other means.
	Shown(remote netip.Addr) bool
	// Begin begins a login by SCRAM-SHA-256, or by SCRAM-SHA-256-PLUS when plus is
	// set, which also take who was not shown them. binding is of the connection's
	// TLS; nil says that there is none, or that the client was not shown the second.
	Begin(ctx context.Context, remote netip.Addr, plus bool, binding Binding) Exchange
}

// scramExchange is a login by SCRAM-SHA-256, RFC 5802 and RFC 7677.
type scramExchange struct {
	a       *Authenticator
	plus    bool
	binding Binding

	step    int
	login   string
	gs2     string // the client's GS2 header
	bound   []byte // the data of the channel binding it asks for
	account string
	known   bool
	keys    *scramKeys
	nonce   string // the client's and ours
	first   string // client-first-message-bare "," server-first-message
}

// SCRAM is SCRAMLogins.Begin without regard to who asks.
func (a *Authenticator) SCRAM(plus bool, binding Binding) Exchange {
	return &scramExchange{a: a, plus: plus, binding: binding}
}

// Login implements Exchange.
func (x *scramExchange) Login() string { return x.login }

// Account implements Exchange.
func (x *scramExchange) Account() string {
	if x.step == ended && x.known {
		return x.account
	}
	return ""
}

// ended is the step behind the last one.
const ended = 3

// Next implements Exchange.
func (x *scramExchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && x.step == 0 {
		return []byte{}, false, nil
	}
	x.step++
	switch {
	case len(response) > maxSCRAM:
		x.step = ended + 1
		return nil, false, x.malformed("a message is too long")
	case x.step > ended:
		return nil, false, x.malformed("the exchange is over")
	}
	switch x.step {
	case 1:
		challenge, err = x.begin(string(response))
	case 2:
		challenge, err = x.prove(string(response))
	case ended: // RFC 5802 5.1: the client has seen the server's proof
		if len(response) == 0 {
			return nil, true, nil
		}
		err = x.malformed("the exchange is over")
	}
	if err != nil {
		x.step, x.known = ended+1, false
	}
	return challenge, false, err
}

func (x *scramExchange) malformed(what string) error { return fmt.Errorf("%w: %s", ErrExchange, what) }

// begin takes the client-first-message and returns the server-first-message.
func (x *scramExchange) begin(message string) ([]byte, error) {
	m, err := parseFirst(message)
	if err != nil {
		return nil, err
	}
	if err := x.bind(m.flag); err != nil {
		return nil, err
	}
	if m.authzid != "" && !strings.EqualFold(m.authzid, m.login) {
		return nil, fmt.Errorf("%w: nobody may act for somebody else", ErrCredentials)
	}
	x.login, x.gs2 = m.login, m.gs2
	x.account, x.keys, x.known = x.a.keysOf(m.login)
	var random [18]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	b64 := base64.StdEncoding.EncodeToString
	x.nonce = m.nonce + b64(random[:])
	answer := "r=" + x.nonce + ",s=" + b64(x.keys.salt) + ",i=" + strconv.Itoa(scramIterations)
	x.first = m.bare + "," + answer
	return []byte(answer), nil
}

// bind looks at the GS2 flag, RFC 5802 6.
func (x *scramExchange) bind(flag string) error {
	name, asks := strings.CutPrefix(flag, "p=")
	switch {
	case asks != x.plus:
		return x.malformed("the mechanism and its channel binding do not belong together")
	case flag == "y" && x.binding != nil:
		// It would have bound, had it seen the offer: somebody took that away.
		return fmt.Errorf("%w: the client was not shown %s", ErrCredentials, SCRAMPlus)
	case asks && x.binding == nil:
		return x.malformed("there is no channel to bind to")
	case asks:
		if x.bound = x.binding(name); len(x.bound) == 0 {
			return x.malformed("that type of channel binding is not offered")
		}
	}
	return nil
}

// prove takes the client-final-message and returns the server-final-message.
func (x *scramExchange) prove(message string) ([]byte, error) {
	m, err := parseFinal(message)
	if err != nil {
		return nil, err
	}
	text := []byte(x.first + "," + m.without)
	signature := hmac.New(sha256.New, x.keys.stored[:])
	signature.Write(text)
	key := signature.Sum(nil)
	subtle.XORBytes(key, key, m.proof)
	stored := sha256.Sum256(key)
	// All of it is computed for everybody, and compared in the same time.
	right := subtle.ConstantTimeCompare(stored[:], x.keys.stored[:])
	right &= subtle.ConstantTimeCompare([]byte(m.nonce), []byte(x.nonce))
	right &= subtle.ConstantTimeCompare(m.binding, append([]byte(x.gs2), x.bound...))
	if right != 1 || !x.known {
		return nil, ErrCredentials
	}
	proof := hmac.New(sha256.New, x.keys.server[:])
	proof.Write(text)
	return []byte("v=" + base64.StdEncoding.EncodeToString(proof.Sum(nil))), nil
}

// firstMessage is a client-first-message, RFC 5802 7.
type firstMessage struct {
	gs2, flag, authzid, bare, login, nonce string
}

func parseFirst(s string) (m firstMessage, err error) {
	bad := func(what string) (firstMessage, error) {
		return firstMessage{}, fmt.Errorf("%w: %s", ErrExchange, what)
	}
	parts := strings.SplitN(s, ",", 3)
	if len(parts) < 3 {
		return bad("want a GS2 header")
	}
	m.flag, m.bare = parts[0], parts[2]
	m.gs2 = s[:len(s)-len(m.bare)]
	if name, ok := strings.CutPrefix(m.flag, "p="); m.flag != "n" && m.flag != "y" && (!ok || name == "" || strings.ContainsFunc(name, noNameChar)) {
		return bad("want n, y or p in the GS2 header")
	}
	if parts[1] != "" {
		name, ok := strings.CutPrefix(parts[1], "a=")
		if m.authzid, ok = saslName(name, ok); !ok {
			return bad("want a= in the GS2 header")
		}
	}
	attributes := strings.Split(m.bare, ",")
	if len(attributes) < 2 { // "m=", an extension that we would have to know, is no n=
		return bad("want n= and r=")
	}
	name, ok := strings.CutPrefix(attributes[0], "n=")
	if m.login, ok = saslName(name, ok); !ok {
		return bad("want n=")
	}
	if m.nonce, ok = strings.CutPrefix(attributes[1], "r="); !ok || !validNonce(m.nonce) || len(m.nonce) > maxNonce {
		return bad("want r=")
	}
	return m, nil
}

func noNameChar(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
}

// saslName undoes the writing of "," and "=" in a name.
func saslName(s string, ok bool) (string, bool) {
	if !ok || s == "" || len(s) > maxLogin || strings.ContainsRune(s, 0) {
		return "", false
	}
	parts := strings.Split(s, "=")
	for i, p := range parts[1:] {
		switch {
		case strings.HasPrefix(p, "2C"):
			parts[i+1] = "," + p[2:]
		case strings.HasPrefix(p, "3D"):
			parts[i+1] = "=" + p[2:]
		default:
			return "", false
		}
	}
	return strings.Join(parts, ""), true
}

func validNonce(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e || r == ',' })
}

// finalMessage is a client-final-message, RFC 5802 7.
type finalMessage struct {
	without        string // client-final-message-without-proof
	nonce          string
	binding, proof []byte
}

func parseFinal(s string) (m finalMessage, err error) {
	bad := func(what string) (finalMessage, error) {
		return finalMessage{}, fmt.Errorf("%w: %s", ErrExchange, what)
	}
	at := strings.LastIndex(s, ",p=")
	if at < 0 {
		return bad("want p=")
	}
	m.without = s[:at]
	if m.proof, err = decode(s[at+3:]); err != nil || len(m.proof) != sha256.Size {
		return bad("the proof is not 32 octets of base64")
	}
	attributes := strings.Split(m.without, ",")
	if len(attributes) < 2 {
		return bad("want c= and r=")
	}
	c, ok := strings.CutPrefix(attributes[0], "c=")
	if !ok {
		return bad("want c=")
	}
	if m.binding, err = decode(c); err != nil {
		return bad("the channel binding is not base64")
	}
	if m.nonce, ok = strings.CutPrefix(attributes[1], "r="); !ok || !validNonce(m.nonce) {
		return bad("want r=")
	}
	return m, nil
}

func decode(s string) ([]byte, error) {
	if bytes.ContainsAny([]byte(s), "\r\n") { // which the decoder would pass over
		return nil, ErrExchange
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}
