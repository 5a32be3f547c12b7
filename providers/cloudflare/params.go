package cloudflare

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudflare/cloudflare-go/v6/dns"
)

// postParam writes a record for a create, in the library's type for its kind.
func postParam(r record) (dns.RecordBatchParamsPostUnion, error) {
	switch r.kind {
	case "A":
		return aParam(r), nil
	case "AAAA":
		return aaaaParam(r), nil
	case "CNAME":
		return cnameParam(r), nil
	case "MX":
		return mxParam(r), nil
	case "TXT":
		return txtParam(r), nil
	case "SRV":
		return srvParam(r)
	case "CAA":
		return caaParam(r)
	case "TLSA":
		return tlsaParam(r)
	}
	return nil, errKind(r)
}

// patchParam writes a record for an update in place. Without a content only the
// rest of it is written.
func patchParam(r record) (dns.BatchPatchUnionParam, error) {
	switch r.kind {
	case "A":
		p := dns.BatchPatchARecordParam{ARecordParam: aParam(r)}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, nil
	case "AAAA":
		p := dns.BatchPatchAAAARecordParam{AAAARecordParam: aaaaParam(r)}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, nil
	case "CNAME":
		p := dns.BatchPatchCNAMERecordParam{CNAMERecordParam: cnameParam(r)}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, nil
	case "MX":
		p := dns.BatchPatchMXRecordParam{MXRecordParam: mxParam(r)}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, nil
	case "TXT":
		p := dns.BatchPatchTXTRecordParam{TXTRecordParam: txtParam(r)}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, nil
	case "SRV":
		inner, err := srvParam(r)
		p := dns.BatchPatchSRVRecordParam{SRVRecordParam: inner}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, err
	case "CAA":
		inner, err := caaParam(r)
		p := dns.BatchPatchCAARecordParam{CAARecordParam: inner}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, err
	case "TLSA":
		inner, err := tlsaParam(r)
		p := dns.BatchPatchTLSARecordParam{TLSARecordParam: inner}
		set(&p.ID.Value, &p.ID.Present, r.id)
		return p, err
	}
	return nil, errKind(r)
}

func errKind(r record) error {
	return fmt.Errorf("record %s: mailform does not write records of type %q", r.name, r.kind)
}

func errContent(r record) error {
	return fmt.Errorf("record %s: %q is not the content of a %s record", r.name, r.content, r.kind)
}

func aParam(r record) (p dns.ARecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.ARecordTypeA)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	p.Content.Present = r.content != ""
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Proxied.Value, &p.Proxied.Present, r.proxied)
	return p
}

func aaaaParam(r record) (p dns.AAAARecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.AAAARecordTypeAAAA)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	p.Content.Present = r.content != ""
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Proxied.Value, &p.Proxied.Present, r.proxied)
	return p
}

func cnameParam(r record) (p dns.CNAMERecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.CNAMERecordTypeCNAME)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	p.Content.Present = r.content != ""
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Proxied.Value, &p.Proxied.Present, r.proxied)
	return p
}

func mxParam(r record) (p dns.MXRecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.MXRecordTypeMX)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	p.Content.Present = r.content != ""
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Priority.Value, &p.Priority.Present, float64(r.priority))
	return p
}

func txtParam(r record) (p dns.TXTRecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.TXTRecordTypeTXT)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, wireContent(r.kind, r.content))
	p.Content.Present = r.content != ""
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	return p
}

func srvParam(r record) (p dns.SRVRecordParam, err error) {
	set(&p.Type.Value, &p.Type.Present, dns.SRVRecordTypeSRV)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	if r.content == "" {
		return p, nil
	}
	numbers, target, ok := leading(r.content, 3)
	if !ok {
		return p, errContent(r)
	}
	var d dns.SRVRecordDataParam
	set(&d.Priority.Value, &d.Priority.Present, numbers[0])
	set(&d.Weight.Value, &d.Weight.Present, numbers[1])
	set(&d.Port.Value, &d.Port.Present, numbers[2])
	set(&d.Target.Value, &d.Target.Present, target)
	set(&p.Data.Value, &p.Data.Present, d)
	return p, nil
}

func caaParam(r record) (p dns.CAARecordParam, err error) {
	set(&p.Type.Value, &p.Type.Present, dns.CAARecordTypeCAA)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	if r.content == "" {
		return p, nil
	}
	flags, tag, value, ok := readCAA(r.content)
	if !ok {
		return p, errContent(r)
	}
	var d dns.CAARecordDataParam
	set(&d.Flags.Value, &d.Flags.Present, float64(flags))
	set(&d.Tag.Value, &d.Tag.Present, tag)
	set(&d.Value.Value, &d.Value.Present, value)
	set(&p.Data.Value, &p.Data.Present, d)
	return p, nil
}

func tlsaParam(r record) (p dns.TLSARecordParam, err error) {
	set(&p.Type.Value, &p.Type.Present, dns.TLSARecordTypeTLSA)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	if r.content == "" {
		return p, nil
	}
	numbers, certificate, ok := leading(r.content, 3)
	if !ok {
		return p, errContent(r)
	}
	var d dns.TLSARecordDataParam
	set(&d.Usage.Value, &d.Usage.Present, numbers[0])
	set(&d.Selector.Value, &d.Selector.Present, numbers[1])
	set(&d.MatchingType.Value, &d.MatchingType.Present, numbers[2])
	set(&d.Certificate.Value, &d.Certificate.Present, certificate)
	set(&p.Data.Value, &p.Data.Present, d)
	return p, nil
}

// leading reads n numbers and one more word.
func leading(content string, n int) (numbers []float64, rest string, ok bool) {
	words := strings.Fields(content)
	if len(words) != n+1 {
		return nil, "", false
	}
	for _, w := range words[:n] {
		v, err := strconv.ParseUint(w, 10, 16)
		if err != nil {
			return nil, "", false
		}
		numbers = append(numbers, float64(v))
	}
	return numbers, words[n], true
}
