package alicloud

import (
	"net/http"
	"strings"

	"mailform/plan"
)

const again = "run the same command again in a while"

// meaning is what follows from some of the vendor's codes: whether it gets better by
// itself, and what a person can do.
type meaning struct {
	class  plan.ErrorClass
	code   string   // ours
	fix    string   // "ACTION" stands for the RAM action that was refused
	codes  []string // the vendor's, exactly
	prefix []string // beginnings of the vendor's
}

// meanings is the one table from the vendor's codes to what follows from them. The
// first that names a code counts. The codes are those of the published definitions
// and those that the vendor's own Terraform provider retries.
var meanings = [...]meaning{
	{class: plan.ErrCredentials, code: codeCredentials,
		fix:   credentialsFix + "; the access key id is known, its secret is wrong",
		codes: []string{"SignatureDoesNotMatch", "InvalidAccessKeySecret"}},
	{class: plan.ErrCredentials, code: codeCredentials,
		fix:   credentialsFix + "; what was used has expired: renew it and run the same command again",
		codes: []string{"InvalidSecurityToken.Expired", "SecurityTokenExpired"}}, // the latter is OSS's
	{class: plan.ErrCredentials, code: codeCredentials,
		fix: credentialsFix + "; the access key must exist, be enabled and, if temporary, come with its security token",
		codes: []string{"InvalidAccessKeyId", "InvalidAccessKeyId.NotFound", "InvalidAccessKeyId.Inactive", "IncompleteSignature",
			"InvalidSecurityToken", "InvalidSecurityToken.Malformed", "InvalidSecurityToken.MismatchWithAccessKey",
			"MissingSecurityToken", "MissingAccessKeyId", "Forbidden.AccessKeyDisabled"}},

	{class: plan.ErrCredentials, code: codePermission,
		fix:   "allow ram:PassRole for the instance's role to the RAM user or role of ALIBABA_CLOUD_ACCESS_KEY_ID, or take ram_role out of the spec's instance block",
		codes: []string{"InvalidUser.PassRoleForbidden"}},
	{class: plan.ErrCredentials, code: codePermission,
		fix: "allow ACTION to the RAM user or role of ALIBABA_CLOUD_ACCESS_KEY_ID",
		codes: []string{"Forbidden.RAM", "Forbidden.Unauthorized", "NoPermission", "Unauthorized", "Forbidden.NoPermission",
			"InvalidOperation.SecurityGroupNotAuthorized", "Forbidden.SubUser", "NoPermission.Tag", "NoPermission.Price", "Operation.Forbidden",
			"AccessDenied"}}, // OSS
	{class: plan.ErrFatal, code: codePermission,
		fix:   "the vendor does not let this account buy it yet: complete the real-name registration in its console, then run the same command again",
		codes: []string{"RealNameAuthenticationError", "AccountForbidden.ProductCreationLimited"}},
	{class: plan.ErrFatal, code: codePermission,
		fix:   "the vendor holds this account back for its own reasons (risk control): ask its support, then run the same command again",
		codes: []string{"Forbidden.RiskControl", "SecurityRisk.3DVerification", "AccountForbidden.AssociatedWithResellerPartner"}},

	{class: plan.ErrThrottled, code: codeThrottled, fix: again,
		codes: []string{"FrequentPurchase.EIP", "QpsLimitExceeded", "TotalQpsLimitExceeded"}, prefix: []string{"Throttling", "Rejected.Throttling"}},
	{class: plan.ErrFatal, code: codeCredentials, fix: "set this machine's clock: the vendor accepts 15 minutes of difference",
		codes: []string{"InvalidTimeStamp.Expired", "InvalidTimeStamp.Format", "IllegalTimestamp", "RequestTimeTooSkewed"}},

	{class: plan.ErrFatal, code: codeBalance,
		fix:   "the account has no way to pay yet: set one in the vendor's console (Billing, Payment Method), then run the same command again",
		codes: []string{"PaymentMethodNotFound", "OperationFailed.NoPaymentMethod", "InvalidPayMethod", "PAY.MAYI_WITHHOLDING_AGREEMENT_ILLEGAL"}},
	{class: plan.ErrFatal, code: codeBalance,
		fix: "pay the account's balance: it owes money (vendor's console, Billing), then run the same command again; what is overdue for long is stopped and then deleted by the vendor",
		codes: []string{"Account.Arrearage", "InvalidAccountStatus", "Forbidden.FinancialLocked", "DiskInArrears", "InstanceExpiredOrInArrears",
			"InvalidInstance.OverduePayment"}},
	{class: plan.ErrFatal, code: codeBalance,
		fix: "pay the account's balance: it is too low for this (pay-as-you-go wants 100 CNY or a credit card); top it up in the vendor's console (Billing), then run the same command again",
		codes: []string{"InvalidAccountStatus.NotEnoughBalance", "InvalidAccountStatus.PayAmountLimitExceeded", "CreditPayInsufficientBalance", "AccountMoneyValidateError",
			"OperationFailed.AccountMoneyInvalid", "PAY.INSUFFICIENT_BALANCE", "PAYFOR.CREDIT_PAY_INSUFFICIENT_BALANCE", "OperationFailed.CreditPayInsufficientBalance"},
		prefix: []string{"InsufficientBalance"}},

	quota("pay-as-you-go instances or processors", "QuotaExceed.AfterpayInstance", "QuotaExceed.ElasticQuota", "OperationDenied.QuotaExceed"),
	quota("disks or disk capacity", "QuotaExceed.PostPaidDisk", "QuotaExceed.DiskCapacity", "QuotaExceeded.PostpaidDataDiskCapacity", "QuotaExceed.PortableCloudDisk"),
	quota("disks in one instance", "InstanceDiskLimitExceeded", "InstanceDiskNumLimitExceed", "InstanceDiskNumber.LimitExceed", "InstanceDiskCategoryLimitExceed"),
	quota("snapshots or snapshot policies", "QuotaExceed.Snapshot", "QuotaExceed.SnapshotQuota", "QuotaExceed.AutoSnapshotPolicy"),
	quota("security groups", "QuotaExceed.SecurityGroup"),
	quota("rules in a security group", "AuthorizationLimitExceed", "AuthorizedGroupRule.LimitExceed"),
	quota("key pairs", "QuotaExceed.KeyPair"),
	quota("VPCs", "QuotaExceeded.Vpc"),
	quota("vSwitches in a VPC", "QuotaExceeded.VSwitch"),
	quota("elastic IP addresses", "QuotaExceeded.Eip", "QuotaExceeded.NumberOfEip", "QuotaExceeded.NumberOfTrafficEip", "InvalidEip.EipQuotaExceeded", "MaxEIPQuotaExceeded"),
	quota("buckets", "TooManyBuckets"),
	quota("tags on one thing", "QuotaExceed.Tags", "QuotaExceeded.TagNum"),
	{class: plan.ErrFatal, code: codeQuota, fix: quotaFix("of these"),
		codes: []string{"OperationFailed.QuotaNotEnough", "SecurityGroupInstanceLimitExceed"}, prefix: []string{"QuotaExceed"}},

	{class: plan.ErrFatal, code: codeStock, fix: "choose another zone or type in the spec's instance block",
		codes: []string{"OperationDenied.NoStock", "Zone.NotOnSale", "Zone.NotOpen", "LackResource", "ResourceNotAvailable",
			"InvalidInstanceType.ZoneNotSupported", "InstanceType.Offline", "InvalidResourceType.NotSupported", "OperationDenied.ZoneNotAllowed",
			"OperationDenied.ZoneSystemCategoryNotMatch"}},
	{class: plan.ErrFatal, code: codeStock, fix: "the region has no public address left now: try again later",
		codes: []string{"OperationFailed.InsufficientEIP", "InvalidOperation.PublicIpAddressNoStock"}},
	{class: plan.ErrFatal, code: codeStock, fix: "the zone has no room for such a disk now: choose another disk category, or try again later",
		codes: []string{"OperationDenied.NotEnoughCapacity"}},
	{class: plan.ErrFatal, code: codeRefused, fix: "this type cannot have disks of this category: choose another category or type in the spec's instance block",
		codes: []string{"InvalidInstanceType.NotSupportDiskCategory", "InvalidDiskCategory.Mismatch", "OperationDenied.DiskTypeNotSupport", "InvalidDiskCategory.NotSupported"}},
	{class: plan.ErrFatal, code: codeRefused,
		fix:   "the vendor does not sell this account such an address; one of its international site pays by traffic only: take charge_by out of the spec's public_ip block",
		codes: []string{"COMMODITY.INVALID_COMPONENT"}},
	{class: plan.ErrFatal, code: codeRefused, fix: "make the role in the vendor's RAM console, trusted by ECS, or correct ram_role in the spec's instance block",
		codes: []string{"InvalidRamRole.NotFound", "InvalidRamRole.NotEcsRole"}},

	// Things that settle by themselves: an asynchronous state, a lock, an earlier
	// request with the same token, or a dependent that is still being released.
	// The vendor refused, so nothing happened.
	{class: plan.ErrTransient, code: codeBusy, prefix: []string{"DependencyViolation"},
		fix: "something still uses it; if it stays so, look for things mailform did not make in it, then run the same command again"},
	{class: plan.ErrTransient, code: codeBusy, fix: again, prefix: []string{"IncorrectStatus", "IncorrectDiskStatus"},
		codes: []string{"TaskConflict", "OperationConflict", "Operation.Conflict", "InvalidOperation.Conflict", "OperationFailed.DistibuteLock", "OperationFailed.DistributeLock",
			"SystemBusy", "System.ServiceBusy", "OperationFailed.SystemBusy", "LastTokenProcessing",
			"OperationFailed.LastTokenProcessing", "IdempotentProcessing", "TOKEN_PROCESSING",
			"OperationFailed.IdempotentTokenProcessing", "IncorrectVpcStatus", "IncorrectVSwitchStatus",
			"IncorrectInstanceStatus", "IncorrectInstanceStatus.Initializing", "IncorrectEipStatus",
			"InvalidStatus.EcsStatusNotSupport", "InvalidStatus.NotAllow", "OperationDenied.OtherSubnetCreating",
			"OperationDenied.OtherSubnetProcessing", "InstanceNotReady", "SignatureNonceUsed", "OperationFailed.ConcurrentRequest",
			"OrderFailed.ConcurrentOperate", "LastOrderProcessing", "InstanceSpecModification.NotEffective", "DiskCreatingSnapshot", "InvalidStatus.Upgrading",
			"InvalidParameter.KeypairAlreadyAttachedInstance", "CreateVSwitch.IncorrectStatus.cbnStatus",
			"DeleteVSwitch.IncorrectStatus.cbnStatus"}},

	{class: plan.ErrBlocked, code: codeConflict, fix: "delete or rename what holds that name, then run the same command again",
		codes: []string{"KeyPair.AlreadyExist"}},
	{class: plan.ErrBlocked, code: codeConflict,
		fix:   "another of the vendor's customers has a bucket of that name, and names are unique among all of them: choose another in the spec's backup block",
		codes: []string{"BucketAlreadyExists"}},
	{class: plan.ErrBlocked, code: codeConflict, fix: bucketFix, codes: []string{"BucketNotEmpty"}},
	{class: plan.ErrFatal, code: codePermission,
		fix:   "activate OSS for the account in the vendor's console (it costs nothing by itself), or pay what it owes, then run the same command again",
		codes: []string{"UserDisable"}},
	{class: plan.ErrBlocked, code: codeConflict, fix: "switch its deletion protection off in the console, then run the same command again",
		codes: []string{"InvalidOperation.DeletionProtection"}},
}

// bucketFix is what to do about a bucket that is to go and holds something.
const bucketFix = "to keep it, write forget \"backup/NAME\" {} into the spec, and apply or destroy again. To lose what is in it, empty it in the vendor's console " +
	"(OSS, Buckets, the bucket, Delete Bucket or a lifecycle rule; old versions and delete markers count), then run the same command again"

func quotaFix(what string) string {
	return "the account may have no more " + what + " in this region: release what is no longer needed or ask for more in the vendor's console (Quota Center), then run the same command again"
}

func quota(what string, codes ...string) meaning {
	return meaning{class: plan.ErrFatal, code: codeQuota, fix: quotaFix(what), codes: codes}
}

// classify says what follows from a refusal: its class, our code for it, and what to do.
func classify(p product, action string, status int, code string) (plan.ErrorClass, string, string) {
	for _, m := range meanings {
		if m.names(code) {
			return m.class, m.code, strings.ReplaceAll(m.fix, "ACTION", p.name+":"+action)
		}
	}
	switch {
	case status == http.StatusForbidden && code == "Forbidden":
		return classify(p, action, status, "Forbidden.RAM")
	case status == http.StatusTooManyRequests, strings.Contains(code, "Throttling"):
		return plan.ErrThrottled, codeThrottled, again
	// A server error on an effect leaves open whether it happened.
	case status >= 500, code == "ServiceUnavailable", code == "InternalError":
		if effect(action) {
			return plan.ErrAmbiguous, codeLost, "run the same command again; it first finds out whether the operation took effect"
		}
		return plan.ErrTransient, codeLost, again
	}
	return plan.ErrFatal, codeRefused, "see the vendor's error center: https://api.aliyun.com/troubleshoot"
}

func (m meaning) names(code string) bool {
	for _, p := range m.prefix {
		if strings.HasPrefix(code, p) {
			return true
		}
	}
	return in(code, m.codes...)
}
