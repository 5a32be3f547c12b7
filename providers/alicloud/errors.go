package alicloud

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailform/plan"
)

// The codes of this provider's errors.
const (
	codeCredentials = "MF5101" // missing, wrong or expired
	codePermission  = "MF5102"
	codeThrottled   = "MF5103"
	codeBusy        = "MF5104" // the vendor is still working on what came before
	codeLost        = "MF5105" // sent, no usable answer
	codeUnreachable = "MF5106"
	codeStock       = "MF5107"
	codeQuota       = "MF5108"
	codeBalance     = "MF5109"
	codeConflict    = "MF5110" // something foreign is in the way
	codeTimeout     = "MF5111" // waited too long for a state
	codeRefused     = "MF5112" // anything else
	codeInternal    = "MF5113" // an operation this version does not know or that lacks an operand
)

// lingering is how long to leave a thing that is still in use before trying again to
// delete it: what used it lingers at the vendor for up to a minute after it is gone.
const lingering = 10 * time.Second

// effect reports whether an operation changes anything.
func effect(action string) bool { return !reads(action) }

// got is what came back, for people.
func (f *failure) got() string {
	switch f.kind {
	case refused:
		s := fmt.Sprintf("%d %s", f.status, f.code)
		if f.message != "" {
			s += ": " + f.message
		}
		if f.request != "" {
			s += " (request " + f.request + ")"
		}
		return s
	case malformed:
		return fmt.Sprintf("status %d, %v", f.status, f.err)
	case unsent:
		return fmt.Sprintf("could not be sent: %v", f.err)
	}
	if errors.Is(f.err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", callTimeout)
	}
	return fmt.Sprintf("no answer: %v", f.err)
}

// explain turns any error of a call into what a person reads, with the class that
// decides about retry and exit code. step says what was being done to what.
func explain(step string, err error) error {
	if err == nil {
		return nil
	}
	var pe *plan.Error
	if errors.As(err, &pe) {
		if pe.Step == "" {
			pe.Step = step
		}
		return pe
	}
	var f *failure
	if !errors.As(err, &f) {
		return &plan.Error{Code: codeRefused, Step: step, Err: err}
	}
	if f.kind == partial {
		return &plan.Error{Class: plan.ErrTransient, Code: codeLost, Step: step, Err: f.err, Fix: "run the same command again"}
	}
	e := &plan.Error{
		Step:       step,
		Sent:       cmp.Or(f.method, "POST") + " " + f.to.String() + " " + f.action,
		Got:        f.got(),
		RetryAfter: f.retryAfter,
		Err:        f.err,
	}
	switch f.kind {
	case refused:
		e.Class, e.Code, e.Fix = classify(f.product, f.action, f.status, f.code)
		switch {
		case e.RetryAfter == 0 && (strings.HasPrefix(f.code, "DependencyViolation") || f.code == "InvalidParameter.KeypairAlreadyAttachedInstance"):
			e.RetryAfter = lingering
		case strings.HasPrefix(f.code, "InvalidTimeStamp"), f.code == "RequestTimeTooSkewed":
			e.Fix += "; it says " + f.at.UTC().Format("2006-01-02 15:04:05 UTC")
		}
	case unsent:
		e.Class, e.Code = plan.ErrTransient, codeUnreachable
		e.Fix = "check the network, the endpoint and any proxy, then run the same command again"
		var unknown x509.UnknownAuthorityError
		var name x509.HostnameError
		var invalid x509.CertificateInvalidError
		if errors.As(f.err, &unknown) || errors.As(f.err, &name) || errors.As(f.err, &invalid) {
			e.Class = plan.ErrFatal
			e.Fix = "check the endpoint's name; for a private CA set MAILFORM_CA_BUNDLE"
		}
		if errors.Is(f.err, context.Canceled) {
			e.Class, e.Fix = plan.ErrFatal, "run the same command again to continue"
		}
	case lost, malformed:
		e.Class, e.Code = plan.ErrTransient, codeLost
		if effect(f.action) {
			e.Class = plan.ErrAmbiguous
		} else if f.kind == malformed && f.status < 500 {
			e.Class = plan.ErrFatal
		}
		e.Fix = "run the same command again; it first finds out whether the operation took effect"
		if f.kind == malformed && f.status < 500 {
			e.Fix = "check that " + f.to.String() + " is Alibaba Cloud's endpoint and nobody answers in its place: a proxy (HTTPS_PROXY), or a network that wants its guests to log in (open any page in a browser); then run the same command again"
		}
	}
	return e
}

func in(s string, set ...string) bool {
	for _, e := range set {
		if s == e {
			return true
		}
	}
	return false
}

// gone reports whether the vendor said that the thing itself does not exist. The
// same is spelled differently by nearly every call.
func gone(err error) bool {
	return isCode(err,
		"InvalidInstanceId.NotFound", "InvalidInstanId.NotFound", "InvalidInstance.NotExist",
		"InvalidVpcId.NotFound", "Forbidden.VpcNotFound", "InvalidVpcID.NotFound",
		"InvalidVSwitchId.NotFound", "InvalidVswitchID.NotFound", "IncorrectVSwitchId", "InvalidVSwitchId.NotExist",
		"InvalidSecurityGroup.NotFound", "InvalidSecurityGroupId.NotFound",
		"InvalidAllocationId.NotFound", "InvalidKeyPairName.NotFound", "InvalidKeyPair.NotFound",
		"InvalidDiskId.NotFound", "InvalidAutoSnapshotPolicyId.NotFound", "InvalidAutoSnapshotPolicy.NotFound",
		"NoSuchBucket")
}

// mismatch reports whether the vendor knows the ClientToken from a request with
// other parameters: proof that an earlier attempt arrived.
func mismatch(err error) bool {
	return isCode(err, "IdempotentParameterMismatch", "IdempotenceParamNotMatch", "Duplicated.ClientToken")
}
