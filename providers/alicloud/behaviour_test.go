package alicloud

import (
	"testing"

	"mailform/plan"
	"mailform/providers/internal/vendortest"
)

// behaviours are the vendor's behaviours that a naive tool gets wrong, by their number
// on the page that gathers them, and what the design asks of the provider and its
// simulator beside them; each with the tests that hold it. sim/ stands for the
// simulator's package, host/ for the host provider's.
var behaviours = map[string][]string{
	"A1":  {"TestEmptyListsAreNotBelievedWithoutPermission", "sim/TestWithoutPermission"},
	"A2":  {"sim/TestNotFoundHasThreeShapes", "TestHalfAPageIsNeverAbsence"},
	"A3":  {"TestClasses", "TestEveryThingThatIsGoneCountsAsDeleted"},
	"A4":  {"sim/TestStatesAndDependencies", "TestAHostIsMadeAndTakenAway", "TestAWaitGivesUpAndSaysWhy"},
	"A5":  {"TestClasses", "TestEveryKindOfBadAnswer"},
	"A6":  {"TestClasses", "TestSoldOut", "TestAnotherZoneIsFoundWhenOneIsSoldOut", "TestWhenNothingCanBeHadTheErrorSaysWhatCan"},
	"A7":  {"sim/TestTokensAreReplayed", "TestEveryLostAnswer", "TestStockThatReturnsNeedsANewToken", "TestASearchInterruptedAnywhere"},
	"A8":  {"TestRuleTable", "TestRulesThatAreTheSameToTheVendorAreOne", "sim/TestSecurityGroupRules"},
	"A9":  {"TestRulesChangeWithoutClosingAPort", "TestManyRulesTakeBatches", "sim/TestSecurityGroupRules"},
	"A10": {"sim/TestSecurityGroupRules", "TestARuleThatSomebodyElseRevokedIsNoError"},
	"A11": {"sim/TestSecurityGroupRules"},
	"A12": {"sim/TestStatesAndDependencies", "TestAHostIsMadeAndTakenAway", "TestDestroyAfterACrashInTheMiddleOfBooting"},
	"A13": {"TestChangesInPlace", "TestATypeThatIsSoldOutDoesNotStopTheMail"},
	"A14": {"TestEveryCallIsExercisedAgainstTheDefinitions", "TestCopiedTagsAreShownAndNotMistaken", "sim/TestPagesAndTags"},
	"A15": {"sim/TestStatesAndDependencies", "TestReplacingTheInstanceKeepsTheDiskAndTheAddress"},
	"A16": {"host/TestAdvice"},
	"A17": {"TestAPlanWithoutChangesCostsAtMostNineCalls", "TestManyRulesTakeBatches"},

	"required parameters":      {"TestEveryCallIsExercisedAgainstTheDefinitions", "sim/TestSignatures"},
	"states and waits":         {"sim/TestStatesAndDependencies"},
	"ClientToken replay":       {"sim/TestTokensAreReplayed"},
	"dependency violations":    {"sim/TestStatesAndDependencies"},
	"disks and snapshots":      {"sim/TestDisks", "sim/TestSnapshotPolicies"},
	"buckets":                  {"TestABucketIsMadePrivateVersionedAndEncrypted", "TestABucketIsNeverDeletedWithWhatIsInIt", "TestOSSRefusals"},
	"latency":                  {"sim/TestLatencyIsWaitedOutSideBySide"},
	"throttling":               {"TestEveryKindOfBadAnswer", "sim/TestFaults"},
	"failing before or after":  {"TestEveryLostAnswer", "sim/TestFaults"},
	"half a page":              {"TestHalfAPageIsNeverAbsence", "sim/TestHalfAPage"},
	"eventual consistency":     {"TestAnIndexThatLagsBehind", "sim/TestListingsByTagLagBehind"},
	"expiring credentials":     {"TestCredentialsThatExpireOnTheWay", "TestOSSCredentialsThatExpireOnTheWay", "sim/TestKeysExpire"},
	"quotas":                   {"TestAQuotaIsNamedAndWhatWasMadeIsUsed", "sim/TestQuotas"},
	"an address on a list":     {"sim/TestAddressesAreHandedOutAsToldAndThenAsEver"},
	"balance in plain words":   {"TestRefusalsInPlainWords"},
	"credentials: environment": {"TestCredentialsFromEnv", "TestFindCredentials"},
	"credentials: profile":     {"TestSharedCredentialsFile"},
	"credentials: roles, OIDC": {"TestRolesAreTakenHeldAndRenewed"},
}

// TestEveryBehaviourHasATest: each of them names a test that is there, and none of
// the page's is left out.
func TestEveryBehaviourHasATest(t *testing.T) {
	vendortest.Behaviours(t, "A", behaviours, map[string]string{"": ".", "sim/": "alicloudsim", "host/": "../host"})
}

// TestEveryThingThatIsGoneCountsAsDeleted: the vendor spells "not found" differently
// in nearly every call; each of its spellings, on the deletion of what it is said of,
// is success.
func TestEveryThingThatIsGoneCountsAsDeleted(t *testing.T) {
	c := newCloud(t)
	p := c.provider()
	for kind, key := range map[string]string{opDeleteVpc: "id", opDeleteVSwitch: "id", opDeleteGroup: "id", opDeleteKey: "name",
		opDeleteInstance: "id", opReleaseEIP: "id", opDeleteDisk: "id", opDeletePolicy: "id"} {
		op := plan.Op{Kind: kind, Title: "delete", Addresses: []plan.Address{"host/mx1/x"}, Inputs: plan.Attrs{key: plan.String("vpc-j6cnotthere")}}
		if _, err := p.Do(t.Context(), op, "t", nil); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
