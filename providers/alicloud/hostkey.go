package alicloud

import (
	"context"
	"time"

	"mailform/plan"
)

// tagPatience bounds the wait for a tag to be told.
const tagPatience = time.Minute

// NoteHostKey sets the tag of an instance that says by which SSH host key it is
// recognised, and waits until the vendor tells it to whoever asks: until then a
// run elsewhere would still expect the key before.
func (p *Provider) NoteHostKey(ctx context.Context, id, fingerprint string) error {
	const step = "note the SSH host key of instance "
	r := p.begin(plan.Op{Title: step + id, Addresses: []plan.Address{""}}, "", nil)
	_, err := r.plain(ctx, &tagResources{rpc: newRPC(ecsTagResources), ResourceType: "instance", ResourceId: &[]string{id}, Tag: &[]tagParam{{tagHostKey, fingerprint}}})
	if err == nil {
		err = r.wait(ctx, "the instance's tag", tagPatience, func(ctx context.Context) (string, bool, error) {
			i, there, err := r.instance(ctx, id)
			if err != nil || !there {
				return "not listed", false, err
			}
			return "not told yet", i.Tags.tags()[tagHostKey] == fingerprint, nil
		})
	}
	return explain(step+id, err)
}
