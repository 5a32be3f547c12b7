package host

import (
	"mailform/plan"
	"mailform/server/manifest"
)

// tuningValue is what a machine is set to in the server's attributes.
func tuningValue(t *manifest.Tuning) plan.Value {
	if t == nil {
		return plan.Null()
	}
	kernel := map[string]plan.Value{}
	for _, name := range t.Parameters() {
		kernel[name] = plan.Int(t.Kernel[name])
	}
	return plan.Map(map[string]plan.Value{
		"kernel": plan.Map(kernel), "journal_mib": number(t.JournalMiB), "time_sync": plan.Bool(t.TimeSync),
	})
}

// readTuning is the inverse of tuningValue.
func readTuning(v plan.Value) *manifest.Tuning {
	if v.IsNull() {
		return nil
	}
	t := &manifest.Tuning{JournalMiB: count(v, "journal_mib"), TimeSync: v.Field("time_sync").True()}
	kernel := v.Field("kernel")
	for _, name := range kernel.FieldNames() {
		if t.Kernel == nil {
			t.Kernel = map[string]int64{}
		}
		t.Kernel[name] = kernel.Field(name).Num()
	}
	return t
}
