package alicloud

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"mailform/plan"
)

// The image of a spec is a vendor's image id, an image family ("acs:…"), or a
// distribution and version as people write them, such as "debian-12".

// findImage turns the spec's image into the id that a new instance of a type gets.
func (r *run) findImage(ctx context.Context, instanceType string) (string, error) {
	want := r.text("image")
	switch {
	case strings.HasPrefix(want, "m-"), strings.HasSuffix(want, ".vhd"), strings.HasSuffix(want, ".raw"):
		return want, nil
	case strings.Contains(want, ":"):
		req := &describeImageFromFamily{rpc: newRPC(ecsDescribeImageFromFamily), ImageFamily: want}
		resp := &describeImageFromFamilyAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return "", err
		}
		if resp.Image.ImageId == "" {
			return "", r.noImage(want, instanceType, nil)
		}
		return resp.Image.ImageId, nil
	}
	images, err := r.images(ctx, instanceType)
	if err != nil {
		return "", err
	}
	id, ok := newestImage(want, images)
	if !ok {
		return "", r.noImage(want, instanceType, images)
	}
	r.progress("from image "+id, 0, 0)
	return id, nil
}

// images lists the vendor's Linux images that a type can boot, so that the
// architecture is right too.
func (r *run) images(ctx context.Context, instanceType string) (all []image, err error) {
	err = numbered(100, func(number, size string) (int, int, error) {
		req := &describeImages{rpc: newRPC(ecsDescribeImages), ImageOwnerAlias: "system", OSType: "linux",
			InstanceType: instanceType, PageNumber: number, PageSize: size}
		resp := &describeImagesAnswer{answer: newAnswer()}
		if err := r.call(ctx, req, resp); err != nil {
			return 0, 0, err
		}
		all = append(all, resp.Images.Image...)
		return len(resp.Images.Image), resp.TotalCount, nil
	})
	return all, err
}

// imagePrefix is how the vendor's image ids of a distribution begin:
// "debian-12" is in "debian_12_8_x64_20G_alibase_20241216.vhd".
func imagePrefix(name string) string {
	p := strings.NewReplacer("-", "_", ".", "_").Replace(strings.ToLower(strings.TrimSpace(name)))
	p = strings.TrimPrefix(p, "alibaba_cloud_linux_")
	if p != "" && p[0] >= '0' && p[0] <= '9' {
		p = "aliyun_" + p // "alibaba-cloud-linux-3"
	}
	return p + "_"
}

// newestImage picks the latest image of a distribution. Ordinary images go before
// special builds (UEFI, container hosts), which have further words in their ids.
func newestImage(name string, images []image) (string, bool) {
	prefix := imagePrefix(name)
	var best image
	found := false
	for _, i := range images {
		if i.ImageId == "" || !strings.HasPrefix(i.ImageId, prefix) || i.Status != "" && i.Status != "Available" || !i.IsSupportCloudinit {
			continue
		}
		switch {
		case !found, ordinary(i.ImageId, prefix) && !ordinary(best.ImageId, prefix):
			best, found = i, true
		case ordinary(i.ImageId, prefix) != ordinary(best.ImageId, prefix):
		case i.CreationTime > best.CreationTime, i.CreationTime == best.CreationTime && i.ImageId > best.ImageId:
			best = i
		}
	}
	return best.ImageId, found
}

// ordinary reports whether between distribution and architecture there are only
// version numbers.
func ordinary(id, prefix string) bool {
	for _, word := range strings.Split(strings.TrimPrefix(id, prefix), "_") {
		if word == "x64" || word == "arm64" {
			return true
		}
		if strings.Trim(word, "0123456789") != "" {
			return false
		}
	}
	return false
}

func (r *run) noImage(want, instanceType string, images []image) error {
	seen := map[string]bool{}
	var names []string
	for _, i := range images {
		words := strings.Split(i.ImageId, "_")
		if len(words) > 1 && !seen[words[0]+"-"+words[1]] {
			seen[words[0]+"-"+words[1]] = true
			names = append(names, words[0]+"-"+words[1])
		}
	}
	sort.Strings(names)
	fix := "give an image id (m-…, ….vhd) or a distribution such as debian-12 in the spec's instance block"
	if len(names) > 0 {
		fix += "; there are " + strings.Join(names[:min(len(names), 20)], ", ")
	}
	return &plan.Error{
		Code: codeRefused,
		Sent: "POST " + r.api.endpoints[ecs].String() + " DescribeImages",
		Got:  fmt.Sprintf("%s has no image %q for %s", r.region, want, instanceType),
		Fix:  fix,
	}
}
