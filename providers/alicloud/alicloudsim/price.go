package alicloudsim

import "strconv"

// Prices per hour, in CNY: made up, of the right order.
var typePrices = map[string]float64{
	"ecs.g7.large": 0.5, "ecs.g7.xlarge": 1.0, "ecs.c7.large": 0.4, "ecs.g8i.large": 0.55, "ecs.g8y.large": 0.45, "ecs.c8y.large": 0.35,
	"ecs.u1-c1m1.large": 0.3, "ecs.u1-c1m2.large": 0.35, "ecs.e-c1m1.large": 0.2, "ecs.e-c1m2.large": 0.25, "ecs.t6-c1m1.large": 0.15, "ecs.t6-c1m2.large": 0.2,
}

// diskPrices are per GiB.
var diskPrices = map[string]float64{"cloud_essd": 0.0021, "cloud_auto": 0.0021, "cloud_ssd": 0.0014, "cloud_essd_entry": 0.001, "cloud_efficiency": 0.0005}

// describePrice tells the price of an instance with its system disk, of a disk or of
// bandwidth, for an hour or a month.
func (r *request) describePrice() (obj, error) {
	details, total := []obj{}, 0.0
	add := func(resource string, price float64) {
		total += price
		details = append(details, obj{"Resource": resource, "OriginalPrice": price, "DiscountPrice": 0, "TradePrice": price, "SubRules": obj{"Rule": []obj{}}})
	}
	disk := func(resource, category, size string) error {
		if category == "" {
			return nil
		}
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 || !knownDisk(category) {
			return refuse(400, "InvalidDataDiskCategory.ValueNotSupported", "The specified disk is not valid.")
		}
		add(resource, float64(n)*diskPrices[category])
		return nil
	}
	switch r.get("ResourceType") {
	case "", "instance":
		t, ok := findType(r.get("InstanceType"))
		if !ok {
			return nil, refuse(404, "InvalidInstanceType.ValueNotSupported", "The specified InstanceType does not exist.")
		}
		add("instanceType", typePrices[t.name])
		if err := disk("systemDisk", r.get("SystemDisk.Category"), r.get("SystemDisk.Size")); err != nil {
			return nil, err
		}
	case "disk":
		if err := disk("dataDisk", r.get("DataDisk.1.Category"), r.get("DataDisk.1.Size")); err != nil {
			return nil, err
		}
	case "bandwidth":
		n, err := strconv.Atoi(r.get("InternetMaxBandwidthOut"))
		if err != nil || n < 1 || n > 500 || r.get("InternetChargeType") != payByBandwidth {
			return nil, refuse(400, "InvalidInternetMaxBandwidthOut.ValueNotSupported", "The specified bandwidth is not valid.")
		}
		add("bandwidth", 0.063*float64(min(n, 5))+0.248*float64(max(n-5, 0)))
	default:
		return nil, refuse(400, "InvalidResourceType.ValueNotSupported", "The specified ResourceType is not supported.")
	}
	switch r.get("PriceUnit") {
	case "", "Hour":
	case "Month":
		for _, d := range details {
			d["OriginalPrice"], d["TradePrice"] = d["OriginalPrice"].(float64)*720, d["TradePrice"].(float64)*720
		}
		total *= 720
	default:
		return nil, refuse(400, "InvalidPriceUnit.ValueNotSupported", "The specified PriceUnit is not supported.")
	}
	return obj{"PriceInfo": obj{
		"Rules": obj{"Rule": []obj{}},
		"Price": obj{"OriginalPrice": total, "DiscountPrice": 0, "TradePrice": total, "Currency": "CNY", "DetailInfos": obj{"DetailInfo": details}},
	}}, nil
}
