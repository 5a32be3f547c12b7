package cloudflare

import (
	"fmt"

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
	}
	return nil, errKind(r)
}

// patchParam writes a record for an update in place.
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
	}
	return nil, errKind(r)
}

func errKind(r record) error {
	return fmt.Errorf("record %s: mailform does not write records of type %q", r.name, r.kind)
}

func aParam(r record) (p dns.ARecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.ARecordTypeA)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Proxied.Value, &p.Proxied.Present, r.proxied)
	return p
}

func aaaaParam(r record) (p dns.AAAARecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.AAAARecordTypeAAAA)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Proxied.Value, &p.Proxied.Present, r.proxied)
	return p
}

func cnameParam(r record) (p dns.CNAMERecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.CNAMERecordTypeCNAME)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Proxied.Value, &p.Proxied.Present, r.proxied)
	return p
}

func mxParam(r record) (p dns.MXRecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.MXRecordTypeMX)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, r.content)
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	set(&p.Priority.Value, &p.Priority.Present, float64(r.priority))
	return p
}

func txtParam(r record) (p dns.TXTRecordParam) {
	set(&p.Type.Value, &p.Type.Present, dns.TXTRecordTypeTXT)
	set(&p.Name.Value, &p.Name.Present, r.name)
	set(&p.TTL.Value, &p.TTL.Present, dns.TTL(r.ttl))
	set(&p.Content.Value, &p.Content.Present, wireContent(r.kind, r.content))
	set(&p.Comment.Value, &p.Comment.Present, r.comment)
	return p
}
