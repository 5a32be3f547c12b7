package specs

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// cidrHostFunc gives one address of a network.
func cidrHostFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "network", Type: cty.String}, {Name: "number", Type: cty.Number}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			p, err := network(args[0])
			if err != nil {
				return cty.NilVal, err
			}
			a, err := numbered(p, p.Addr().BitLen(), args[1])
			if err != nil {
				return cty.NilVal, function.NewArgError(1, err)
			}
			return cty.StringVal(a.String()), nil
		},
	})
}

// cidrSubnetFunc gives one subnet of a network.
func cidrSubnetFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "network", Type: cty.String}, {Name: "bits", Type: cty.Number}, {Name: "number", Type: cty.Number}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			p, err := network(args[0])
			if err != nil {
				return cty.NilVal, err
			}
			bits, acc := args[1].AsBigFloat().Int64()
			if room := p.Addr().BitLen() - p.Bits(); acc != big.Exact || bits < 0 || bits > int64(room) {
				return cty.NilVal, function.NewArgErrorf(1, "the prefix of %s can grow by 0 to %d bits", p, room)
			}
			a, err := numbered(p, p.Bits()+int(bits), args[2])
			if err != nil {
				return cty.NilVal, function.NewArgError(2, err)
			}
			return cty.StringVal(netip.PrefixFrom(a, p.Bits()+int(bits)).String()), nil
		},
	})
}

func network(v cty.Value) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v.AsString())
	if err != nil || p.Addr().Is4In6() || p.Masked() != p {
		return netip.Prefix{}, function.NewArgErrorf(0, "%q is not a network like 10.0.0.0/16", v.AsString())
	}
	return p, nil
}

// numbered writes a number into the bits of an address between the network's
// prefix and bit end; a negative one counts back from the last.
func numbered(p netip.Prefix, end int, number cty.Value) (netip.Addr, error) {
	n, acc := number.AsBigFloat().Int(nil)
	if n == nil || acc != big.Exact {
		return netip.Addr{}, errors.New("a whole number is needed")
	}
	size := new(big.Int).Lsh(big.NewInt(1), uint(end-p.Bits()))
	if n.Sign() < 0 {
		n.Add(n, size)
	}
	if n.Sign() < 0 || n.Cmp(size) >= 0 {
		return netip.Addr{}, fmt.Errorf("%s has numbers from 0 to %s here", p, size.Sub(size, big.NewInt(1)))
	}
	raw := p.Addr().AsSlice()
	n.Lsh(n, uint(p.Addr().BitLen()-end))
	n.Or(n, new(big.Int).SetBytes(raw))
	a, _ := netip.AddrFromSlice(n.FillBytes(raw)) // raw has an address's length
	return a, nil
}
