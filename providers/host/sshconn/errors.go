package sshconn

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// Kind is what kept a connection from being made.
type Kind string

// The kinds of failure.
const (
	Unreachable   Kind = "unreachable"    // no route, no such name
	Refused       Kind = "refused"        // the machine is there, nothing listens
	TimedOut      Kind = "timed out"      // nothing answers
	Silent        Kind = "silent"         // it accepts and says nothing
	HungUp        Kind = "hung up"        // it accepts and ends the connection
	NotSSH        Kind = "not SSH"        // something else answers
	HostKey       Kind = "host key"       // not the one that is expected
	NoKey         Kind = "no key"         // there is none to offer
	KeysRefused   Kind = "keys refused"   // none of ours is accepted
	TooManyKeys   Kind = "too many keys"  // it hung up before all were offered
	NoPublicKeys  Kind = "no public keys" // it takes passwords only
	BadKnownHosts Kind = "known_hosts"    // a file cannot be read
	BadPin        Kind = "pin"            // the pinned key is none
	BadConfig     Kind = "configuration"  // the configuration cannot be used
	ProxyFailed   Kind = "proxy"          // ProxyCommand ended
	Other         Kind = "other"
)

// Error is why there is no connection to a machine, or to a jump host before it.
type Error struct {
	Kind Kind
	At   Settings // where it failed: the machine or a jump host
	Sent string   // what was offered or asked
	Got  string   // for people
	Fix  string   // what to do, for people
	Err  error
}

func (e *Error) Error() string { return e.At.String() + ": " + e.Got }

func (e *Error) Unwrap() error { return e.Err }

// Waits reports whether trying again later may help: the machine may be booting.
func (k Kind) Waits() bool {
	switch k {
	case Unreachable, Refused, TimedOut, Silent, HungUp, ProxyFailed, Other:
		return true
	}
	return false
}

// Auth reports whether the machine does not let us in.
func (k Kind) Auth() bool {
	return k == NoKey || k == KeysRefused || k == TooManyKeys || k == NoPublicKeys
}

// dialError says why there is no TCP connection.
func dialError(s Settings, err error) *Error {
	e := &Error{Kind: Other, At: s, Err: err, Got: rootCause(err), Fix: "Is the machine up, and may your address reach its SSH port?"}
	var dns *net.DNSError
	var n net.Error
	text := strings.ToLower(e.Got)
	switch {
	case errors.As(err, &dns):
		e.Kind, e.Got, e.Fix = Unreachable, fmt.Sprintf("the name %s is not found", s.Host), "Is it spelled right in ~/.ssh/config, and does DNS answer here?"
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "connection refused"):
		e.Kind = Refused
		e.Fix = fmt.Sprintf("The machine answers, but nothing listens on port %d: is its SSH server running, and is that its port?", s.Port)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), strings.Contains(text, "no route to host"), strings.Contains(text, "unreachable"):
		e.Kind = Unreachable
		e.Fix = "There is no way to it from here: is the machine up, is the address right, is a VPN or a jump host needed (ProxyJump in ~/.ssh/config)?"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &n) && n.Timeout():
		e.Kind, e.Got = TimedOut, fmt.Sprintf("nothing answered within %s", dialTimeout)
		e.Fix = fmt.Sprintf("A firewall drops it or the machine is down. May your address reach port %d?", s.Port)
	}
	return e
}

// handshakeError says why there is no SSH over a connection that was made.
func handshakeError(s Settings, err error, m *meter, offered []string, late bool) *Error {
	e := &Error{Kind: Other, At: s, Err: err, Got: rootCause(err), Fix: "Look at the SSH server's log on the machine: journalctl -u ssh -u sshd."}
	first := m.begin()
	text := err.Error()
	var proxy *proxyError
	switch {
	case first == "" && errors.As(err, &proxy):
		e.Kind, e.Got = ProxyFailed, "the ProxyCommand of the SSH configuration ended: "+proxy.said
		e.Fix = "Run the command by itself: it has to connect to the machine and pass on what the SSH server says."
	case first != "" && !looksLikeSSH(first):
		e.Kind, e.Got = NotSSH, fmt.Sprintf("what answers is no SSH server: it says %.60q", first)
		e.Fix = fmt.Sprintf("Is %d the port of the machine's SSH server?", s.Port)
	case late && first == "":
		e.Kind, e.Got = Silent, fmt.Sprintf("it accepts connections and says nothing: no SSH handshake within %s", handshakeTimeout)
		e.Fix = "Is it another service's port, or is the machine overloaded or still booting?"
	case late:
		e.Kind, e.Got = Silent, fmt.Sprintf("no SSH handshake within %s", handshakeTimeout)
		e.Fix = "It is an SSH server, but a very slow one: overloaded, or waiting for a DNS server that does not answer (UseDNS)."
	case strings.Contains(strings.ToLower(text), "too many authentication failures"):
		e.Kind, e.Sent = TooManyKeys, "public keys "+strings.Join(offered, ", ")
		e.Got = fmt.Sprintf("it ends the connection before the last of %d keys was offered (MaxAuthTries)", len(offered))
		e.Fix = "Name the key that the machine knows: IdentityFile with IdentitiesOnly yes in ~/.ssh/config, or MAILFORM_SSH_KEY; it is then offered first."
	case strings.Contains(text, "attempted methods [none]") && len(offered) > 0:
		e.Kind, e.Got = NoPublicKeys, "it does not accept public keys for "+s.User
		e.Fix = "mailform logs in with keys only. Put yours into ~/.ssh/authorized_keys there (ssh-copy-id), and allow it: PubkeyAuthentication, PermitRootLogin."
	case strings.Contains(text, "unable to authenticate"):
		if len(offered) == 0 {
			e.Kind, e.Got = NoKey, "there is no SSH key to offer"
			e.Fix = "Start an SSH agent and load your key (ssh-add), or name a key file in MAILFORM_SSH_KEY or ~/.ssh/config."
			break
		}
		e.Kind, e.Sent, e.Got = KeysRefused, "public keys "+strings.Join(offered, ", "), "none of them is accepted for "+s.User
		e.Fix = "Load a key that the machine knows into your SSH agent, or name its file in MAILFORM_SSH_KEY or ~/.ssh/config."
	case first == "":
		e.Kind, e.Got = HungUp, "it accepts the connection and ends it without a word"
		e.Fix = "The machine may be booting, refuse your address (fail2ban, hosts.deny), or have too many logins at once (MaxStartups)."
	}
	return e
}

// looksLikeSSH: a server may say other lines before its version, RFC 4253 4.2, but
// none does that mailform is for.
func looksLikeSSH(first string) bool {
	return strings.HasPrefix(first, "SSH-"[:min(4, len(first))])
}

func rootCause(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return err.Error()
}
