package sshconn

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"mailform/providers/host/hostlab"
)

// openssh is OpenSSH's server on two machines, a third to lose, and a person whose keys and
// files OpenSSH's own tools make.
type openssh struct {
	*testing.T
	lab          *hostlab.Lab
	mx1, bastion *hostlab.Machine
	home         string
}

// TestRealOpenSSH logs in to OpenSSH's server in the ways that its own client knows.
func TestRealOpenSSH(t *testing.T) {
	l := hostlab.New(t)
	o := openssh{t, l, l.Boot("mx1"), l.Boot("bastion"), t.TempDir()}
	if err := os.Mkdir(filepath.Join(o.home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	lost := o.lose(l.Boot("lost"))
	for name, test := range map[string]func(openssh){
		"encrypted key files": openssh.encryptedKeys,
		"user certificates":   openssh.userCertificates,
		"host certificates":   openssh.hostCertificates,
		"agent":               openssh.agent,
		"known_hosts":         openssh.knownHosts,
		"ways":                openssh.ways,
	} {
		t.Run(name, func(t *testing.T) {
			in := o
			in.T = t
			test(in)
		})
	}
	lost()
}

// tool runs one of OpenSSH's own.
func (o openssh) tool(name string, args ...string) string {
	o.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		o.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// key makes a key file that root's account on a machine accepts when there is one.
func (o openssh) key(name string, on *hostlab.Machine, args ...string) string {
	o.Helper()
	file := filepath.Join(o.home, ".ssh", name)
	o.tool("ssh-keygen", append([]string{"-q", "-f", file}, args...)...)
	if on != nil {
		on.Sh("echo '" + strings.TrimSpace(o.read(file+".pub")) + "' >>/root/.ssh/authorized_keys")
	}
	return file
}

func (o openssh) read(file string) string {
	o.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		o.Fatal(err)
	}
	return string(b)
}

func (o openssh) write(file, text string) string {
	o.Helper()
	if !filepath.IsAbs(file) {
		file = filepath.Join(o.home, ".ssh", file)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		o.Fatal(err)
	}
	return file
}

// restart, unlike a reload, ends when the SSH server listens again. systemd thinks that so many are
// a failure.
const restart = "systemctl reset-failed ssh && systemctl restart ssh"

// settle gives a machine's SSH server settings beside its own, and takes them away with the test.
func (o openssh) settle(m *hostlab.Machine, settings string) {
	o.Helper()
	const file = "/etc/ssh/sshd_config.d/lab.conf"
	m.Sh("printf '%s\n' '" + settings + "' >" + file + " && sshd -t && " + restart)
	o.Cleanup(func() { m.Sh("rm " + file + " && " + restart) })
}

// env is a new run's, of a person with a configuration.
func (o openssh) env(config string) *Env {
	o.Helper()
	variables := map[string]string{ConfigVariable: o.write("config", config)}
	e, err := NewEnv(o.home, "root", func(name string) string { return variables[name] })
	if err != nil {
		o.Fatal(err)
	}
	e.Dial, e.GlobalKnownHosts = o.lab.Dial, nil
	o.Cleanup(e.Keys.Close)
	return e
}

// pinned is a machine whose host key the spec names.
func pinned(m *hostlab.Machine) Target {
	return Target{Label: "host " + m.Name, Names: []string{m.Name + ".lab.test"}, Address: m.Address.String(), HostKey: m.Fingerprint()}
}

func (o openssh) connect(e *Env, t Target) (*Conn, error) {
	o.Helper()
	s, err := e.Settings(t)
	if err != nil {
		return nil, err
	}
	trust, err := e.Trust(s)
	if err != nil {
		return nil, err
	}
	return e.Connect(o.Context(), s, trust)
}

// in is that a login succeeds and leads to the machine that it should.
func (o openssh) in(what string, e *Env, t Target) {
	o.Helper()
	c, err := o.connect(e, t)
	if err != nil {
		var failed *Error
		errors.As(err, &failed)
		o.Errorf("%s: %v %+v", what, err, failed)
		return
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		o.Errorf("%s: %v", what, err)
		return
	}
	if out, err := s.Output("hostname --short"); err != nil || "host "+strings.TrimSpace(string(out)) != t.Label {
		o.Errorf("%s: %v, %q", what, err, out)
	}
}

// out is that a login fails in a certain way, and what is said about it.
func (o openssh) out(what string, e *Env, t Target, kind Kind, says ...string) {
	o.Helper()
	c, err := o.connect(e, t)
	if err == nil {
		c.Close()
		o.Errorf("%s: it lets us in", what)
		return
	}
	var failed *Error
	if !errors.As(err, &failed) || failed.Kind != kind {
		o.Errorf("%s: %v, expected %s", what, err, kind)
		return
	}
	for _, text := range says {
		if all := failed.Got + "\n" + failed.Fix; !strings.Contains(all, text) {
			o.Errorf("%s: it does not say %q:\n%s", what, text, all)
		}
	}
}

// Every format in which ssh-keygen encrypts a key, and what is said of one that is not known.
func (o openssh) encryptedKeys() {
	const passphrase = "a long\tpassphrase, ü"
	for name, args := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa", "-b", "384"}, "rsa": {"-t", "rsa", "-b", "2048"},
		"rsa.pem": {"-t", "rsa", "-b", "2048", "-m", "PEM"}, "ctr": {"-t", "ed25519", "-Z", "aes256-ctr"},
	} {
		file := o.key("locked-"+name, o.mx1, append(args, "-a", "2", "-N", passphrase)...)
		e := o.env("IdentityFile " + file)
		asked := 0
		e.Keys.Passphrase = func(of string, wrong bool) ([]byte, error) {
			if asked++; of != file || wrong != (asked > 1) {
				o.Errorf("%s: asked for %s, wrong %v", name, of, wrong)
			}
			if asked == 1 {
				return []byte("wrong"), nil
			}
			return []byte(passphrase), nil
		}
		o.in(name, e, pinned(o.mx1))
		o.in(name+" again", e, pinned(o.mx1))
		if asked != 2 {
			o.Errorf("%s: asked %d times", name, asked)
		}
		o.out(name+" with nobody to ask", o.env("IdentityFile "+file), pinned(o.mx1), NoKey, "encrypted", "ssh-add "+file)
	}
	file := o.key("locked-pkcs8", o.mx1, "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", passphrase)
	e := o.env("IdentityFile " + file)
	o.out("PKCS #8", e, pinned(o.mx1), NoKey)
	if notes := strings.Join(e.Keys.Notes(), "\n"); !strings.Contains(notes, file) {
		o.Errorf("of a key in a format that is not read it says %q", notes)
	}
}

// sign makes a certificate and returns its file.
func (o openssh) sign(ca, public string, args ...string) string {
	o.Helper()
	o.tool("ssh-keygen", append([]string{"-q", "-s", ca, "-I", "lab"}, append(args, public)...)...)
	return strings.TrimSuffix(public, ".pub") + "-cert.pub"
}

// A machine that knows only a CA lets in whom that vouches for.
func (o openssh) userCertificates() {
	ca := o.key("user-ca", nil, "-t", "ed25519", "-N", "")
	o.mx1.Sh("echo '" + strings.TrimSpace(o.read(ca+".pub")) + "' >/etc/ssh/user-ca.pub")
	o.settle(o.mx1, "TrustedUserCAKeys /etc/ssh/user-ca.pub")
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		file := o.key("certified-"+kind, nil, "-t", kind, "-N", "")
		o.out(kind+" without a certificate", o.env("IdentityFile "+file), pinned(o.mx1), KeysRefused)
		cert := o.sign(ca, file+".pub", "-n", "root")
		o.in(kind+" with its certificate beside it", o.env("IdentityFile "+file), pinned(o.mx1))
		elsewhere := o.write("elsewhere-"+kind+".pub", o.read(cert))
		if err := os.Remove(cert); err != nil {
			o.Fatal(err)
		}
		o.in(kind+" with a CertificateFile", o.env("IdentityFile "+file+"\nCertificateFile "+elsewhere), pinned(o.mx1))
	}
	locked := o.key("certified-locked", nil, "-t", "ed25519", "-a", "2", "-N", "secret")
	o.sign(ca, locked+".pub", "-n", "root")
	e := o.env("IdentityFile " + locked)
	e.Keys.Passphrase = func(string, bool) ([]byte, error) { return []byte("secret"), nil }
	o.in("an encrypted key with a certificate", e, pinned(o.mx1))

	file := o.key("certified-in-agent", nil, "-t", "ed25519", "-N", "")
	o.sign(ca, file+".pub", "-n", "root")
	o.in("key and certificate in an agent", o.env("IdentityAgent "+o.startAgent(file)), pinned(o.mx1))

	other := o.key("of-somebody-else", nil, "-t", "ed25519", "-N", "")
	o.sign(ca, other+".pub", "-n", "bob")
	o.out("a certificate for another user", o.env("IdentityFile "+other), pinned(o.mx1), KeysRefused, "root")
}

// A machine whose key a CA of known_hosts vouches for is known; others are not.
func (o openssh) hostCertificates() {
	ca := o.key("host-ca", nil, "-t", "ed25519", "-N", "")
	authority := "@cert-authority *.lab.test,198.51.100.* " + o.read(ca+".pub")
	mx1 := pinned(o.mx1)
	mx1.HostKey = ""
	identity := "IdentityFile " + o.lab.KeyFile() + "\nUserKnownHostsFile "
	certify := func(args ...string) {
		o.Helper()
		public := filepath.Join(o.home, "host.pub")
		o.write(public, o.mx1.Sh("cat /etc/ssh/ssh_host_ed25519_key.pub")+"\n")
		text := o.read(o.sign(ca, public, append([]string{"-h"}, args...)...))
		o.mx1.Sh("echo '" + strings.TrimSpace(text) + "' >/etc/ssh/ssh_host_ed25519_key-cert.pub && " + restart)
	}
	certify("-n", "mx1.lab.test")
	o.settle(o.mx1, "HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub")
	known := identity + o.write("known-ca", authority)
	o.in("by a CA", o.env(known), mx1)
	o.in("by a pinned key beside the certificate", o.env(known), pinned(o.mx1))
	o.in("by a plain line, after a CA's for others", o.env(identity+o.write("known-both", strings.Replace(authority, "*.lab.test,198.51.100.*", "*.other.test", 1)+o.mx1.KnownHosts())), mx1)
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(o.read(ca + ".pub")))
	if err != nil {
		o.Fatal(err)
	}
	o.out("a revoked key", o.env(identity+o.write("known-revoked", authority+"@revoked * "+o.mx1.Sh("cat /etc/ssh/ssh_host_ed25519_key.pub"))), mx1, HostKey, "revoked")
	certify("-n", "bastion.lab.test,*.LAB.test")
	o.in("a certificate for a pattern", o.env(known), mx1)
	certify("-n", "other.lab.test")
	o.out("a certificate for another machine", o.env(known), mx1, HostKey, ssh.FingerprintSHA256(key), "other.lab.test")
	certify("-n", "mx1.lab.test", "-V", "20200101:20200102")
	o.out("a certificate that has ended", o.env(known), mx1, HostKey, "expired", "-n mx1.lab.test")
}

// startAgent starts an ssh-agent with keys and returns its socket.
func (o openssh) startAgent(files ...string) string {
	o.Helper()
	dir, err := os.MkdirTemp("", "a") // a socket's path is short
	if err != nil {
		o.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() {
		agent.Process.Kill()
		agent.Wait()
		os.RemoveAll(dir)
	})
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) { // until another program is ready
		if _, err := os.Stat(socket); err == nil {
			break
		} else if time.Since(start) > 10*time.Second {
			o.Fatal(err)
		}
	}
	add := exec.Command("ssh-add", append([]string{"-q"}, files...)...)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := add.CombinedOutput(); err != nil {
		o.Fatalf("ssh-add: %v\n%s", err, out)
	}
	return socket
}

// Of an agent's many keys the one that a machine knows is found, or it is said how.
func (o openssh) agent() {
	var files []string
	for i := range 8 {
		files = append(files, o.key("many-"+strconv.Itoa(i), nil, "-t", "ed25519", "-N", ""))
	}
	right := o.key("right", o.mx1, "-t", "rsa", "-b", "2048", "-N", "")
	socket := o.startAgent(append(files, right)...)
	with := "IdentityAgent " + socket + "\n"
	o.out("the last of nine", o.env(with), pinned(o.mx1), TooManyKeys, "9 keys", "MaxAuthTries", "IdentitiesOnly")
	o.in("named", o.env(with+"IdentityFile "+right), pinned(o.mx1))
	if err := os.Remove(right); err != nil { // the agent alone has it
		o.Fatal(err)
	}
	o.in("named by its public half", o.env(with+"IdentitiesOnly yes\nIdentityFile "+right+".pub"), pinned(o.mx1))
	o.in("the third of three", o.env("IdentityAgent "+o.startAgent(files[0], files[1], o.lab.KeyFile())), pinned(o.mx1))
	o.out("none that it knows", o.env("IdentityAgent "+o.startAgent(files[0])), pinned(o.mx1), KeysRefused, "root")
}

// Machines are recognised by what ssh and ssh-keygen have written into known_hosts.
func (o openssh) knownHosts() {
	mx1 := pinned(o.mx1)
	mx1.HostKey = ""
	identity := "IdentityFile " + o.lab.KeyFile() + "\nUserKnownHostsFile "
	file := o.write("known-hashed", o.bastion.KnownHosts()+o.mx1.KnownHosts())
	o.tool("ssh-keygen", "-q", "-H", "-f", file)
	if text := o.read(file); !strings.HasPrefix(text, "|1|") || strings.Contains(text, mx1.Address) {
		o.Fatalf("not hashed: %s", text)
	}
	o.in("hashed", o.env(identity+file), mx1)

	o.settle(o.mx1, "Port 22\nPort 2222")
	other := mx1
	other.Port = 2222
	o.out("of another port", o.env(identity+file), other, HostKey, "nothing says")
	withPort := o.write("known-port", "["+mx1.Address+"]:2222 "+strings.SplitN(o.mx1.KnownHosts(), " ", 2)[1])
	o.tool("ssh-keygen", "-q", "-H", "-f", withPort)
	o.in("hashed, with its port", o.env(identity+withPort), other)

	// A machine with keys of all kinds shows the one that is known, whichever that is.
	o.mx1.Sh("ssh-keygen -q -A && " + restart)
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		line := mx1.Address + " " + o.mx1.Sh("cat /etc/ssh/ssh_host_"+kind+"_key.pub") + "\n"
		o.in("by its "+kind+" key", o.env(identity+o.write("known-"+kind, line)), mx1)
	}

	// A person confirms a key once, and ssh itself then knows it.
	learnt := filepath.Join(o.home, ".ssh", "known-learnt")
	e := o.env(identity + learnt)
	o.out("with nobody to ask", e, mx1, HostKey, "nothing says", "ssh-keygen -lf")
	asked := 0
	e.Confirm = func(string, string) bool { asked++; return true }
	o.in("confirmed", e, mx1)
	o.in("not asked again", o.env(identity+learnt), mx1)
	if asked != 1 || o.tool("ssh-keygen", "-F", mx1.Address, "-f", learnt) == "" {
		o.Errorf("asked %d times, known_hosts has %q", asked, o.read(learnt))
	}

	// A machine that was set up anew, or somebody in between.
	was := strings.Fields(o.tool("ssh-keygen", "-lf", learnt))[1]
	o.mx1.Sh("cd /etc/ssh && mkdir kept && mv ssh_host_* kept && ssh-keygen -q -A && " + restart)
	now := strings.Fields(o.mx1.Sh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"))[1]
	o.out("a changed key", o.env(identity+learnt), mx1, HostKey, was, now, learnt+":1", "ssh-keygen -R "+mx1.Address)
	o.out("another key than the pinned one", o.env(identity+learnt), pinned(o.mx1), HostKey, o.mx1.Fingerprint(), now, "pinned")
	o.mx1.Sh("cd /etc/ssh && rm ssh_host_* && mv kept/* . && rmdir kept && " + restart)
	o.in("its own again", o.env(identity+learnt), mx1)
}

// Aliases, jump hosts and commands lead to a machine.
func (o openssh) ways() {
	known := o.write("known-ways", o.bastion.KnownHosts())
	common := fmt.Sprintf("\nHost *\n IdentityFile %s\n UserKnownHostsFile %s\n", o.lab.KeyFile(), known)
	alias := "Host post\n HostName " + o.mx1.Address.String() + "\n ProxyJump gate\nHost gate\n HostName " + o.bastion.Address.String() + "\n User ops\n Port 2022\n"
	o.bastion.Sh("useradd -m -s /usr/sbin/nologin ops && install -d -o ops -m 700 ~ops/.ssh && install -o ops -m 600 /root/.ssh/authorized_keys ~ops/.ssh/")
	o.settle(o.bastion, "Port 22\nPort 2022\nMatch User ops\n  PermitTTY no\n  AllowAgentForwarding no")
	o.write(known, o.bastion.KnownHosts()+"["+o.bastion.Address.String()+"]:2022 "+strings.SplitN(o.bastion.KnownHosts(), " ", 2)[1])
	before := o.bastion.Sh("journalctl --sync; journalctl -q --no-pager -u ssh --grep 'Accepted publickey for ops' | wc -l")
	o.in("an alias behind a jump host", o.env(alias+common), pinned(o.mx1))
	if after := o.bastion.Sh("journalctl --sync; journalctl -q --no-pager -u ssh --grep 'Accepted publickey for ops' | wc -l"); after == before {
		o.Errorf("the jump host has seen nobody: %s logins, then %s", before, after)
	}
	o.out("behind a jump host, nobody listens", o.env(alias+"Host "+o.mx1.Address.String()+"\n Port 2\n"+common), pinned(o.mx1), Refused, "nothing listens on port 2")
	o.out("a jump host that is not known", o.env(alias+strings.Replace(common, known, known+"-none", 1)), pinned(o.mx1), HostKey, "nothing says")

	o.bastion.Sh("sed -i '$a  AllowTcpForwarding no' /etc/ssh/sshd_config.d/lab.conf && " + restart)
	o.out("a jump host that does not forward", o.env(alias+common), pinned(o.mx1), Other, "AllowTcpForwarding")

	// ssh itself as the command, from the network that the machines are in.
	command := o.lab.Enter() + " ssh -F none -o BatchMode=yes -o UserKnownHostsFile=" + known + " -i " + o.lab.KeyFile() + " -W %h:%p root@"
	o.in("ssh -W", o.env("Host mx1.lab.test\n ProxyCommand "+command+o.bastion.Address.String()+common), pinned(o.mx1))
	o.out("a command that fails", o.env("Host mx1.lab.test\n ProxyCommand "+command+o.mx1.Address.String()+common), pinned(o.mx1), ProxyFailed, "Host key verification failed")
}

// lose connects to a machine, directly and through another, takes it off the network and returns
// what waits until that is noticed.
func (o openssh) lose(m *hostlab.Machine) (noticed func()) {
	o.Helper()
	identity := "Host *\n IdentityFile " + o.lab.KeyFile() + "\n UserKnownHostsFile " + o.write("known-lost", o.bastion.KnownHosts()) + "\n"
	var conns []*Conn
	for _, config := range []string{identity, "Host lost.lab.test\n ProxyJump root@" + o.bastion.Address.String() + "\n" + identity} {
		c, err := o.connect(o.env(config), pinned(m))
		if err != nil {
			o.Fatal(err)
		}
		conns = append(conns, c)
	}
	m.Partition(true)
	start := time.Now()
	gone := make([]chan time.Duration, len(conns))
	for i, c := range conns {
		gone[i] = make(chan time.Duration, 1)
		go func() {
			<-c.Gone()
			gone[i] <- time.Since(start)
		}()
	}
	return func() {
		o.Helper()
		for i, way := range []string{"directly", "through a jump host"} {
			if took := <-gone[i]; took > 30*time.Second {
				o.Errorf("a machine that is lost, %s: noticed after %s", way, took)
			} else {
				o.Logf("a machine that is lost, %s: noticed after %s", way, took.Round(time.Millisecond))
			}
		}
	}
}
