package specs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"golang.org/x/crypto/ssh"
)

// flaw says why a value was refused.
type flaw struct {
	code    string
	summary string
	detail  string
}

// portRange is what a kindPorts value becomes.
type portRange struct{ from, to int }

// quoted shows a value in a message, or not if it is a secret.
func (a *attrSchema) quoted(s string) string {
	if a.Sensitive {
		return "this value"
	}
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "…"
	}
	return strconv.Quote(s)
}

func (a *attrSchema) flaw(code, s, problem, fix string) *flaw {
	return &flaw{code, a.quoted(s) + " " + problem, fix}
}

// parse reads one known, non-null, unmarked value of the attribute's kind.
func (a *attrSchema) parse(v cty.Value) (any, *flaw) {
	switch a.Kind {
	case kindBool:
		b, err := convert.Convert(v, cty.Bool)
		if err != nil {
			return nil, a.wrongType("true or false", v)
		}
		return b.True(), nil
	case kindInt:
		n, f := a.integer(v)
		if f != nil {
			return nil, f
		}
		return n, a.limits(n, strconv.FormatInt(n, 10), codeOutOfRange, func(n int64) string { return strconv.FormatInt(n, 10) })
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return nil, a.wrongType("a string", v)
	}
	return a.parseText(s.AsString())
}

// parseText reads a value, or a label, that is written as text.
func (a *attrSchema) parseText(s string) (any, *flaw) {
	if len(a.Choices) > 0 {
		return a.choice(s)
	}
	switch a.Kind {
	case kindSize:
		n, err := parseSize(s)
		if err != nil {
			return nil, a.flaw(codeBadSize, s, "is not a size", capital(err.Error())+`. Write a number with its unit, like "10GiB" or "500MB", or a whole number of bytes.`)
		}
		if n == 0 && a.ZeroIs != "" {
			return n, nil
		}
		return n, a.limits(n, s, codeBadSize, formatSize)
	case kindGiB:
		n, err := parseSize(s)
		if err != nil {
			return nil, a.flaw(codeBadSize, s, "is not a size", capital(err.Error())+`. Write it like "40GiB".`)
		}
		if n%(1<<30) != 0 {
			return nil, a.flaw(codeBadSize, s, "is not a whole number of GiB", fmt.Sprintf("Disks are sold in GiB (1024³ bytes). Write %q.", formatSize((n/(1<<30)+1)<<30)))
		}
		gib := n >> 30
		return int(gib), a.limits(gib, s, codeBadSize, func(n int64) string { return formatSize(n << 30) })
	case kindDuration:
		return a.duration(s)
	case kindDays:
		d, err := parseDuration(s)
		if err != nil || d%(24*time.Hour) != 0 {
			return nil, a.flaw(codeBadDuration, s, "is not a number of whole days", `Write it like "14d" or "2w".`)
		}
		days := int64(d / (24 * time.Hour))
		return int(days), a.limits(days, s, codeBadDuration, func(n int64) string { return fmt.Sprintf("%dd", n) })
	case kindHour:
		m := hourRE.FindStringSubmatch(strings.TrimSpace(s))
		if m == nil || m[2] != "00" {
			return nil, a.flaw(codeBadTime, s, "is not a full hour of the day", `Write it like "03:00", from "00:00" to "23:00".`)
		}
		h, _ := strconv.Atoi(m[1])
		return h, nil
	case kindPercent:
		m := percentRE.FindStringSubmatch(strings.TrimSpace(s))
		if m == nil {
			return nil, a.flaw(codeBadPercent, s, "is not a percentage", `Write a whole number of percent, like "10%".`)
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		return int(n), a.limits(n, s, codeBadPercent, func(n int64) string { return fmt.Sprintf("%d%%", n) })
	case kindBandwidth:
		n, err := parseBandwidth(s)
		if err != nil {
			return nil, a.flaw(codeBadBandwidth, s, "is not a bandwidth", `Write it like "10Mbps".`)
		}
		return int(n), a.limits(n, s, codeBadBandwidth, func(n int64) string { return fmt.Sprintf("%dMbps", n) })
	case kindPrefix:
		return a.prefix(s)
	case kindIP:
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		ip = ip.Unmap()
		if err != nil || ip.Zone() != "" || ip.IsUnspecified() || ip.IsMulticast() {
			return nil, a.flaw(codeBadIP, s, "is not the address of a machine", `Write an IPv4 or IPv6 address, like "203.0.113.7".`)
		}
		return ip, nil
	case kindPorts:
		return a.ports(s)
	case kindDomain:
		// Services publish their SPF records under names with underscores.
		d, err := mailDomain(s)
		if a.List {
			d, err = NormalizeDomain(s)
		}
		if err != nil {
			return nil, a.flaw(codeBadDomain, s, "is not a domain name", capital(err.Error())+".")
		}
		return d, nil
	case kindHostname:
		d, err := mailDomain(s)
		if err != nil {
			return nil, a.flaw(codeBadHostname, s, "is not a host name", capital(err.Error())+`. Write it in full, like "mail.acme.example".`)
		}
		return d, nil
	case kindEmail:
		e, err := emailAddress(s)
		if err != nil {
			return nil, a.flaw(codeBadEmail, s, "is not a mail address", capital(err.Error())+".")
		}
		return e, nil
	case kindRecipient:
		if strings.Contains(s, "@") {
			e, err := emailAddress(s)
			if err != nil {
				return nil, a.flaw(codeBadEmail, s, "is not a mail address", capital(err.Error())+".")
			}
			return e, nil
		}
		base, tag, sub := strings.Cut(s, "+")
		l, err := ownLocal(base)
		if err != nil {
			return nil, a.flaw(codeBadLocalPart, s, "is neither a local part nor a mail address", capital(err.Error())+".")
		}
		if sub {
			if _, err := emailAddress("x+" + tag + "@a.example"); err != nil {
				return nil, a.flaw(codeBadLocalPart, s, "is neither a local part nor a mail address", capital(err.Error())+".")
			}
			l += "+" + tag
		}
		return l, nil
	case kindLocal:
		l, err := ownLocal(s)
		if err != nil {
			return nil, a.flaw(codeBadLocalPart, s, "cannot be a local part", capital(err.Error())+".")
		}
		return l, nil
	case kindName:
		if !nameRE.MatchString(s) {
			return nil, a.flaw(codeBadName, s, "cannot be a name", "Names have 1 to 32 characters of a-z, 0-9 and -, and neither begin nor end with -.")
		}
		return s, nil
	case kindURL:
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
			return nil, a.flaw(codeBadURL, s, "is not a URL that can be used", `Write it in full, like "https://acme.example/directory", without credentials.`)
		}
		return s, nil
	case kindHostPort:
		h, port, ok := cutPort(s)
		if n, err := strconv.Atoi(port); !ok || err != nil || n < 1 || n > 65535 || !isRemote(h) {
			return nil, a.flaw(codeBadHostPort, s, "is not HOST:PORT", `Write it like "9.9.9.9:53" or "[2620:fe::fe]:53".`)
		}
		return s, nil
	case kindRemote:
		if ip, err := netip.ParseAddr(s); err == nil {
			return ip.String(), nil
		}
		h, err := normalizeName(s, false)
		if err != nil {
			return nil, a.flaw(codeBadHostname, s, "is not a host name", capital(err.Error())+".")
		}
		return h, nil
	case kindPHC:
		if err := checkPHC(s); err != nil {
			return nil, &flaw{codeBadPasswordHash, "not an argon2id hash",
				capital(err.Error()) + ". Make one with: mailform hash-password. A password itself never stands in a spec."}
		}
		return s, nil
	case kindSSHKey:
		return a.sshKeys(s)
	case kindHostKey:
		return a.hostKey(s)
	case kindWebName, kindBucket, kindObjectKey, kindDatabase, kindExtension, kindFilter:
		return a.parseName(s)
	case kindAddressGlob:
		g, err := addressGlob(s)
		if err != nil {
			return nil, a.flaw(codeBadGlob, s, "names no address", capital(err.Error())+".")
		}
		return g, nil
	case kindFieldGlob:
		g, err := fieldGlob(s)
		if err != nil {
			return nil, a.flaw(codeBadGlob, s, "names no field", capital(err.Error())+".")
		}
		return g, nil
	case kindSelector:
		l, err := asciiLabel(s, false)
		if err == nil && len(l)+len("-ed25519") > maxLabel {
			err = fmt.Errorf("it has %d characters; %d are allowed, because the algorithm's name is added", len(l), maxLabel-len("-ed25519"))
		}
		if err != nil {
			return nil, a.flaw(codeBadSelector, s, "is not a DKIM selector", capital(err.Error())+".")
		}
		return l, nil
	}
	if f := a.textFlaw(s); f != nil {
		return nil, f
	}
	return s, nil
}

var (
	nameRE     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	sizeRE     = regexp.MustCompile(`^([0-9]{1,20})(\.[0-9]{1,9})?\s*([A-Za-z]*)$`)
	durationRE = regexp.MustCompile(`^(?:([0-9]{1,5})w)?(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,8})m)?(?:([0-9]{1,10})s)?$`)
	bandRE     = regexp.MustCompile(`^([0-9]{1,9})\s*(?i:(mbps|mbit/s|m|gbps|gbit/s|g)?)$`)
	hourRE     = regexp.MustCompile(`^([01]?[0-9]|2[0-3]):([0-9]{2})$`)
	percentRE  = regexp.MustCompile(`^([0-9]{1,9})\s*%?$`)
	portsRE    = regexp.MustCompile(`^([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?$`)
)

func (a *attrSchema) wrongType(want string, v cty.Value) *flaw {
	return &flaw{codeWrongType, fmt.Sprintf("%s must be %s", a.Name, want), fmt.Sprintf("The value is %s.", typeWords(v.Type()))}
}

func (a *attrSchema) integer(v cty.Value) (int64, *flaw) {
	n, err := convert.Convert(v, cty.Number)
	if err != nil {
		return 0, a.wrongType("a number", v)
	}
	f := n.AsBigFloat()
	if f.IsInf() || f.MantExp(nil) > 63 || !f.IsInt() {
		return 0, &flaw{codeOutOfRange, a.Name + " must be a whole number", fmt.Sprintf("From %d to %d is allowed.", a.Min, a.Max)}
	}
	i, _ := f.Int64()
	return i, nil
}

// limits checks Min and Max.
func (a *attrSchema) limits(n int64, s, code string, show func(int64) string) *flaw {
	if n >= a.Min && (a.Max == 0 || n <= a.Max) {
		return nil
	}
	return a.flaw(code, s, "is outside the limits", fmt.Sprintf("From %s to %s is allowed.", show(a.Min), show(a.Max)))
}

func (a *attrSchema) choice(s string) (any, *flaw) {
	for _, c := range a.Choices {
		if s == c {
			return s, nil
		}
	}
	detail := "Use " + orList(quoteAll(a.Choices)) + "."
	if near := spell(s, a.Choices); near != "" {
		detail = fmt.Sprintf("Did you mean %q? %s", near, detail)
	}
	return nil, &flaw{codeBadChoice, fmt.Sprintf("%s cannot be %s", a.Name, a.quoted(s)), detail}
}

func (a *attrSchema) textFlaw(s string) *flaw {
	limit := a.MaxLen
	if limit == 0 {
		limit = defaultMaxLen
	}
	switch {
	case strings.TrimSpace(s) == "":
		return &flaw{codeBadText, a.Name + " is empty", "Leave the attribute out, or give it a text."}
	case len(s) > limit:
		return &flaw{codeBadText, a.Name + " is too long", fmt.Sprintf("It has %d bytes; %d are allowed.", len(s), limit)}
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return &flaw{codeBadText, a.Name + " has control characters", "It must be one line of text. A text that was read from a file may end in a newline: use trimspace(file(…))."}
	}
	if a.Form != nil && !a.Form.re.MatchString(s) {
		return a.flaw(codeBadName, s, a.Form.not, a.Form.hint)
	}
	return nil
}

func (a *attrSchema) prefix(s string) (any, *flaw) {
	t := strings.TrimSpace(s)
	if ip, err := netip.ParseAddr(t); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(t)
	if err != nil || p.Addr().Is4In6() {
		return nil, a.flaw(codeBadPrefix, s, "is not a network", `Write an address or a network, like "198.51.100.7", "198.51.100.0/24" or "2001:db8::/32".`)
	}
	if m := p.Masked(); m != p {
		return nil, a.flaw(codeBadPrefix, s, "has host bits set", fmt.Sprintf("The network is %q; the single address is %q.", m, p.Addr()))
	}
	return p, nil
}

func (a *attrSchema) ports(s string) (any, *flaw) {
	m := portsRE.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return nil, a.flaw(codeBadPort, s, "is not a port", `Write a port or a range, like 443 or "8000-8010".`)
	}
	from, _ := strconv.Atoi(m[1])
	to := from
	if m[2] != "" {
		to, _ = strconv.Atoi(m[2])
	}
	switch {
	case from < 1 || to < 1 || from > 65535 || to > 65535:
		return nil, a.flaw(codeBadPort, s, "is not a port", "Ports go from 1 to 65535.")
	case to < from:
		return nil, a.flaw(codeBadPort, s, "is a range that runs backwards", fmt.Sprintf("Write \"%d-%d\".", to, from))
	}
	return portRange{from, to}, nil
}

// sshKeys reads one or more lines in authorized_keys format, so that
// file("authorized_keys") works, and gives them as []string.
func (a *attrSchema) sshKeys(s string) (any, *flaw) {
	if strings.Contains(s, "PRIVATE KEY-----") {
		return nil, &flaw{codeBadSSHKey, "this is a private key", "It must not leave its place. The public key is in the file of the same name that ends in .pub."}
	}
	var keys []string
	for _, line := range strings.Split(s, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil {
			return nil, a.flaw(codeBadSSHKey, line, "is not an SSH public key", `Use a line as it stands in a .pub file: file("~/.ssh/id_ed25519.pub").`)
		}
		keys = append(keys, line)
	}
	if len(keys) == 0 {
		return nil, &flaw{codeBadSSHKey, "no SSH public key here", "The text is empty or holds only comments."}
	}
	return keys, nil
}

func (a *attrSchema) hostKey(s string) (any, *flaw) {
	t := strings.TrimSpace(s)
	if b64, ok := strings.CutPrefix(t, "SHA256:"); ok {
		if sum, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(b64, "=")); err == nil && len(sum) == 32 {
			return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum), nil
		}
	} else if key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(t)); err == nil && len(options) == 0 && len(rest) == 0 {
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
	}
	return nil, a.flaw(codeBadHostKey, s, "is not a host key", `Write the fingerprint that "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" prints (SHA256:…), or the line of that file.`)
}

// checkPHC accepts an argon2id PHC string with costs that a mail host can bear.
func checkPHC(s string) error {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return errors.New("it does not have the form $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	}
	if parts[2] != "v=19" {
		return errors.New("its version is not v=19")
	}
	var m, t, p uint32
	params := strings.Split(parts[3], ",")
	if len(params) != 3 || !phcParam(params[0], "m=", &m) || !phcParam(params[1], "t=", &t) || !phcParam(params[2], "p=", &p) {
		return errors.New("its costs are not of the form m=…,t=…,p=…")
	}
	if p < 1 || p > 64 || t < 1 || t > 64 || m < 8*p || m > 1<<20 {
		return errors.New("its costs are out of bounds: 8·p to 1048576 KiB for m, 1 to 64 for t and p")
	}
	salt, err := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return errors.New("its salt is not 8 to 64 bytes in unpadded base64")
	}
	hash, err := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err != nil || len(hash) < 16 || len(hash) > 64 {
		return errors.New("its hash is not 16 to 64 bytes in unpadded base64")
	}
	return nil
}

func phcParam(s, prefix string, out *uint32) bool {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || digits == "" || digits[0] == '0' || digits[0] == '+' {
		return false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	*out = uint32(n)
	return err == nil
}

func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	host, port = s[:i], s[i+1:]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		return host[1 : len(host)-1], port, true
	}
	return host, port, !strings.Contains(host, ":")
}

func isRemote(h string) bool {
	if _, err := netip.ParseAddr(h); err == nil {
		return true
	}
	_, err := normalizeName(h, false)
	return err == nil
}

func capital(s string) string {
	if s == "" {
		return s
	}
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}

// article puts "a" or "an" before a noun, as it is spoken: "an mx block".
func article(noun string) string {
	switch word, _, _ := strings.Cut(noun, " "); {
	case strings.HasPrefix(word, "user"):
		return "a " + noun // as it is spoken
	case word == "mx", word == "spf", word == "ssh", word != "" && strings.ContainsRune("aeiou", rune(word[0])):
		return "an " + noun
	}
	return "a " + noun
}

// typeWords names a value's type for people.
func typeWords(ty cty.Type) string {
	switch {
	case ty.IsTupleType() || ty.IsListType():
		return "a list"
	case ty.IsSetType():
		return "a set"
	case ty.IsMapType():
		return "a map"
	}
	return article(ty.FriendlyName())
}

// thereAre lists what could have been meant.
func thereAre(names []string) string {
	switch {
	case len(names) == 1:
		return "There is only " + names[0] + "."
	case len(names) > 10:
		return fmt.Sprintf("There are %s and %d more.", strings.Join(names[:10], ", "), len(names)-10)
	}
	return "There are " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + "."
}

func quoteAll(ss []string) []string {
	out := make([]string, len(ss))
	for i, s := range ss {
		out[i] = strconv.Quote(s)
	}
	return out
}

// orList joins "a, b or c".
func orList(ss []string) string {
	if len(ss) < 2 {
		return strings.Join(ss, "")
	}
	return strings.Join(ss[:len(ss)-1], ", ") + " or " + ss[len(ss)-1]
}
