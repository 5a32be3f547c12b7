package alicloudsim

import "strings"

// zones are the zones of every region, by their letters.
var zones = [...]string{"b", "c", "d"}

// instanceType is something for sale.
type instanceType struct {
	name  string
	arch  string // "x86_64" or "arm64"
	zones string // letters of the zones that sell it
}

var instanceTypes = [...]instanceType{
	{"ecs.g7.large", "x86_64", "bc"},
	{"ecs.g7.xlarge", "x86_64", "bc"},
	{"ecs.c7.large", "x86_64", "bcd"},
	{"ecs.g8i.large", "x86_64", "cd"},
	{"ecs.u1-c1m1.large", "x86_64", "bcd"},
	{"ecs.u1-c1m2.large", "x86_64", "bcd"},
	{"ecs.e-c1m1.large", "x86_64", "bcd"},
	{"ecs.e-c1m2.large", "x86_64", "bcd"},
	{"ecs.t6-c1m1.large", "x86_64", "b"},
	{"ecs.t6-c1m2.large", "x86_64", "b"},
	{"ecs.g8y.large", "arm64", "d"},
	{"ecs.c8y.large", "arm64", "d"},
}

var diskCategories = [...]string{"cloud_essd", "cloud_essd_entry", "cloud_auto", "cloud_efficiency", "cloud_ssd"}

func findType(name string) (instanceType, bool) {
	for _, t := range instanceTypes {
		if t.name == name {
			return t, true
		}
	}
	return instanceType{}, false
}

func knownDisk(category string) bool {
	for _, c := range diskCategories {
		if c == category {
			return true
		}
	}
	return false
}

func (s *Sim) zoneIDs() []string {
	ids := make([]string, len(zones))
	for i, z := range zones {
		ids[i] = s.cfg.Region + "-" + z
	}
	return ids
}

// sells reports whether a zone has a type in its catalogue.
func (t instanceType) sells(zone string) bool {
	i := strings.LastIndexByte(zone, '-')
	return i >= 0 && len(zone) > i+1 && strings.Contains(t.zones, zone[i+1:])
}

func (s *Sim) soldOut(zone, name string) bool {
	return s.cfg.NoStock != nil && s.cfg.NoStock(zone, name)
}

// systemImage is one of the vendor's public images.
type systemImage struct {
	id, family, os, arch, created string
	size                          int // GiB
}

var systemImages = [...]systemImage{
	{"aliyun_3_x64_20G_alibase_20250629.vhd", "acs:alibaba_cloud_linux_3_2104_lts_x64", "Alibaba Cloud Linux  3.2104 LTS 64 bit", "x86_64", "2025-07-03T02:12:12Z", 20},
	{"aliyun_3_x64_20G_container_optimized_alibase_20250929.vhd", "acs:alibaba_cloud_linux_3_2104_lts_x64_container", "Alibaba Cloud Linux  3.2104 LTS 64 bit Container Optimized", "x86_64", "2025-10-09T02:12:12Z", 20},
	{"aliyun_3_arm64_20G_alibase_20250629.vhd", "acs:alibaba_cloud_linux_3_2104_lts_arm64", "Alibaba Cloud Linux  3.2104 LTS 64 bit ARM", "arm64", "2025-07-03T02:12:12Z", 20},
	{"almalinux_9_6_x64_20G_alibase_20250618.vhd", "acs:almalinux_9_x64", "AlmaLinux  9.6 64 bit", "x86_64", "2025-06-20T06:10:00Z", 20},
	{"centos_stream_9_x64_20G_alibase_20250520.vhd", "acs:centos_stream_9_x64", "CentOS Stream  9 64 bit", "x86_64", "2025-05-22T06:10:00Z", 20},
	{"debian_11_11_x64_20G_alibase_20250117.vhd", "acs:debian_11_x64", "Debian  11.11 64 bit", "x86_64", "2025-01-20T03:02:01Z", 20},
	{"debian_12_8_x64_20G_alibase_20241216.vhd", "", "Debian  12.8 64 bit", "x86_64", "2024-12-18T03:02:01Z", 20},
	{"debian_12_11_x64_20G_alibase_20250716.vhd", "acs:debian_12_x64", "Debian  12.11 64 bit", "x86_64", "2025-07-18T03:02:01Z", 20},
	{"debian_12_11_arm64_20G_alibase_20250716.vhd", "acs:debian_12_arm64", "Debian  12.11 64 bit ARM", "arm64", "2025-07-18T03:02:01Z", 20},
	{"debian_13_1_x64_20G_alibase_20250915.vhd", "acs:debian_13_x64", "Debian  13.1 64 bit", "x86_64", "2025-09-17T03:02:01Z", 20},
	{"ubuntu_22_04_x64_20G_alibase_20250722.vhd", "acs:ubuntu_22_04_x64", "Ubuntu  22.04 64 bit", "x86_64", "2025-07-24T03:02:01Z", 20},
	{"ubuntu_22_04_uefi_x64_20G_alibase_20250822.vhd", "acs:ubuntu_22_04_uefi_x64", "Ubuntu  22.04 64 bit UEFI", "x86_64", "2025-08-24T03:02:01Z", 20},
	{"ubuntu_24_04_x64_20G_alibase_20250722.vhd", "acs:ubuntu_24_04_x64", "Ubuntu  24.04 64 bit", "x86_64", "2025-07-24T03:02:01Z", 20},
	{"ubuntu_24_04_arm64_20G_alibase_20250722.vhd", "acs:ubuntu_24_04_arm64", "Ubuntu  24.04 64 bit ARM", "arm64", "2025-07-24T03:02:01Z", 20},
}

func findImage(id string) (systemImage, bool) {
	for _, i := range systemImages {
		if i.id == id {
			return i, true
		}
	}
	return systemImage{}, false
}

func (i systemImage) body() obj {
	return obj{
		"ImageId": i.id, "ImageFamily": i.family, "ImageName": i.id, "OSName": i.os, "OSNameEn": i.os, "Architecture": i.arch,
		"CreationTime": i.created, "Size": i.size, "Status": "Available", "OSType": "linux", "ImageOwnerAlias": "system",
		"IsSupportCloudinit": true, "IsSupportIoOptimized": true, "Progress": "100%", "Usage": "instance", "IsPublic": true,
		"Platform": strings.Fields(i.os)[0],
	}
}

func (r *request) describeImages() (obj, error) {
	arch := r.get("Architecture")
	if name := r.get("InstanceType"); name != "" {
		t, ok := findType(name)
		if !ok {
			return nil, refuse(404, "InvalidInstanceType.NotFound", "The specified instanceType does not exist.")
		}
		arch = t.arch
	}
	all := []obj{}
	for _, i := range systemImages {
		switch {
		case r.get("ImageOwnerAlias") != "" && r.get("ImageOwnerAlias") != "system",
			r.get("OSType") != "" && r.get("OSType") != "linux",
			arch != "" && arch != i.arch,
			r.get("ImageFamily") != "" && r.get("ImageFamily") != i.family,
			r.get("ImageId") != "" && !strings.Contains(","+r.get("ImageId")+",", ","+i.id+","):
			continue
		}
		all = append(all, i.body())
	}
	page, body, err := numbered(r, all, 100)
	if err != nil {
		return nil, err
	}
	body["RegionId"] = r.cfg.Region
	body["Images"] = obj{"Image": page}
	return body, nil
}

func (r *request) describeImageFromFamily() (obj, error) {
	var newest systemImage
	for _, i := range systemImages {
		if i.family == r.get("ImageFamily") && i.created > newest.created {
			newest = i
		}
	}
	if newest.id == "" {
		return obj{}, nil
	}
	body := newest.body()
	for _, name := range []string{"OSNameEn", "IsPublic"} {
		delete(body, name) // this operation's answer does not have them
	}
	return obj{"Image": body}, nil
}

func (r *request) describeAvailableResource() (obj, error) {
	if r.get("DestinationResource") != "InstanceType" {
		return nil, refuse(400, "Invalid.DestinationResource", "The specified DestinationResource is not valid.")
	}
	if c := r.get("SystemDiskCategory"); c != "" && !knownDisk(c) {
		return nil, refuse(404, "InvalidSystemDiskCategory.ValueNotSupported", "The specified SystemDiskCategory is not supported.")
	}
	list := []obj{}
	for _, zone := range r.zoneIDs() {
		if z := r.get("ZoneId"); z != "" && z != zone {
			continue
		}
		offers := []obj{}
		for _, t := range instanceTypes {
			if want := r.get("InstanceType"); want != "" && want != t.name || !t.sells(zone) {
				continue
			}
			status, stock := "Available", "WithStock"
			if r.cfg.Announced && r.soldOut(zone, t.name) {
				status, stock = "SoldOut", "WithoutStock"
			}
			offers = append(offers, obj{"Value": t.name, "Status": status, "StatusCategory": stock})
		}
		if len(offers) == 0 {
			continue
		}
		list = append(list, obj{
			"RegionId": r.cfg.Region, "ZoneId": zone, "Status": "Available", "StatusCategory": "WithStock",
			"AvailableResources": obj{"AvailableResource": []obj{{
				"Type": "InstanceType", "SupportedResources": obj{"SupportedResource": offers},
			}}},
		})
	}
	return obj{"AvailableZones": obj{"AvailableZone": list}}, nil
}
