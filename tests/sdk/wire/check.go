package wire

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Required are the fields that a message is nothing without, unless a mask leaves them out.
var Required = map[string][]string{
	"spire.api.types.SPIFFEID":                                             {"trust_domain"},
	"spire.api.types.Selector":                                             {"type", "value"},
	"spire.api.types.Entry":                                                {"id", "spiffe_id", "parent_id", "selectors", "created_at"},
	"spire.api.types.Agent":                                                {"id", "attestation_type", "x509svid_expires_at"},
	"spire.api.types.Bundle":                                               {"trust_domain"},
	"spire.api.types.X509Certificate":                                      {"asn1"},
	"spire.api.types.JWTKey":                                               {"public_key", "key_id"},
	"spire.api.types.X509SVID":                                             {"cert_chain", "id", "expires_at"},
	"spire.api.types.JWTSVID":                                              {"token", "id", "expires_at", "issued_at"},
	"spire.api.types.JoinToken":                                            {"value", "expires_at"},
	"spire.api.types.Logger":                                               {"current_level", "launch_level"},
	"spire.api.types.PermissionDeniedDetails":                              {"reason"},
	"spire.api.types.FederationRelationship":                               {"trust_domain", "bundle_endpoint_url", "bundle_endpoint_profile"},
	"spire.api.types.HTTPSSPIFFEProfile":                                   {"endpoint_spiffe_id"},
	"spire.api.types.AttestationData":                                      {"type", "payload"},
	"spire.api.server.localauthority.v1.AuthorityState":                    {"authority_id", "expires_at"},
	"spire.api.server.agent.v1.AgentX509SVIDParams":                        {"csr"},
	"spire.api.server.agent.v1.AttestAgentRequest":                         {"step"},
	"spire.api.server.agent.v1.AttestAgentRequest.Params":                  {"data", "params"},
	"spire.api.server.agent.v1.AttestAgentResponse":                        {"step"},
	"spire.api.server.agent.v1.AttestAgentResponse.Result":                 {"svid"},
	"spire.api.server.agent.v1.RenewAgentRequest":                          {"params"},
	"spire.api.server.agent.v1.RenewAgentResponse":                         {"svid"},
	"spire.api.server.agent.v1.PostStatusRequest":                          {"agent_version"},
	"spire.api.server.entry.v1.EntryRevision":                              {"id", "created_at"},
	"spire.api.server.entry.v1.BatchCreateEntryResponse.Result":            {"status"},
	"spire.api.server.entry.v1.BatchUpdateEntryResponse.Result":            {"status"},
	"spire.api.server.entry.v1.BatchDeleteEntryResponse.Result":            {"status", "id"},
	"spire.api.server.bundle.v1.BatchCreateFederatedBundleResponse.Result": {"status"},
	"spire.api.server.bundle.v1.BatchUpdateFederatedBundleResponse.Result": {"status"},
	"spire.api.server.bundle.v1.BatchSetFederatedBundleResponse.Result":    {"status"},
	"spire.api.server.bundle.v1.BatchDeleteFederatedBundleResponse.Result": {"status", "trust_domain"},
	"spire.api.server.bundle.v1.GetFederatedBundleRequest":                 {"trust_domain"},
	"spire.api.server.svid.v1.MintX509SVIDResponse":                        {"svid"},
	"spire.api.server.svid.v1.MintJWTSVIDResponse":                         {"svid"},
	"spire.api.server.svid.v1.BatchNewX509SVIDResponse.Result":             {"status"},
	"spire.api.server.svid.v1.BatchNewX509SVIDRequest":                     {"params"},
	"spire.api.server.svid.v1.NewX509SVIDParams":                           {"entry_id", "csr"},
	"spire.api.server.svid.v1.NewJWTSVIDRequest":                           {"entry_id", "audience"},
	"spire.api.server.svid.v1.NewJWTSVIDResponse":                          {"svid"},
	"spire.api.server.svid.v1.NewDownstreamX509CAResponse":                 {"ca_cert_chain", "x509_authorities"},
	"spire.api.server.debug.v1.GetInfoResponse":                            {"svid_chain"},
	"spire.api.server.debug.v1.GetInfoResponse.Cert":                       {"id", "expires_at", "subject"},
	"spire.agent.debug.v1.GetInfoResponse":                                 {"svid_chain", "last_sync_success"},
	"spire.agent.debug.v1.GetInfoResponse.Cert":                            {"id", "expires_at", "subject"},
	"spire.api.agent.delegatedidentity.v1.X509SVIDWithKey":                 {"x509_svid", "x509_svid_key"},
}

// Mask says which fields of one kind of message were asked for.
type Mask struct {
	Message string
	Asked   map[string]bool // by field; what is not a key is not for the mask to say
}

// leavesOut says whether a field, or the choice it belongs to, was not asked for.
func (m *Mask) leavesOut(message string, names ...string) bool {
	if m == nil || m.Message != message {
		return false
	}
	for _, name := range names {
		if asked, known := m.Asked[name]; known {
			return !asked
		}
	}
	return false
}

// Check says everything that is wrong with a message of this name.
func (t *Table) Check(message string, bytes []byte, mask *Mask) []string {
	c := checker{table: t, mask: mask}
	c.message(message, message, bytes)
	return c.found
}

type checker struct {
	table *Table
	mask  *Mask
	found []string
}

func (c *checker) complain(path, format string, args ...any) {
	c.found = append(c.found, path+" "+fmt.Sprintf(format, args...))
}

func (c *checker) message(path, name string, bytes []byte) {
	fields, known := c.table.Messages[name]
	if !known {
		c.complain(path, "is a %s, which is not published", name)
		return
	}
	seen := map[string]bool{}
	for last := protowire.Number(0); len(bytes) > 0; {
		number, kind, length := protowire.ConsumeTag(bytes)
		if length < 0 {
			c.complain(path, "has no tag where one has to be")
			return
		}
		bytes = bytes[length:]
		length = protowire.ConsumeFieldValue(number, kind, bytes)
		if length < 0 {
			c.complain(path, "has a field %d that is cut short", number)
			return
		}
		value := bytes[:length]
		bytes = bytes[length:]
		field, known := fields[int(number)]
		if !known {
			c.complain(path, "has an unknown field %d", number)
			continue
		}
		at := path + "." + field.Name
		if number < last {
			c.complain(at, "comes after a field of a higher number")
		}
		last = number
		if seen[field.Name] && !field.Repeated {
			c.complain(at, "is there twice")
		}
		if field.Oneof != "" && seen[field.Oneof] {
			c.complain(at, "is a second choice of %s", field.Oneof)
		}
		seen[field.Name], seen[field.Oneof] = true, true
		if c.mask.leavesOut(name, field.Name, field.Oneof) {
			c.complain(at, "was not asked for")
		}
		c.field(at, field, kind, value)
	}
	for _, required := range Required[name] {
		if !seen[required] && !c.mask.leavesOut(name, required) {
			c.complain(path+"."+required, "is missing")
		}
	}
}

func (c *checker) field(path string, field Field, kind protowire.Type, value []byte) {
	if field.Map[0] != "" {
		c.entry(path, field, kind, value)
		return
	}
	if !field.Repeated && !field.Presence && c.isScalar(field.Type) && isZero(kind, value) {
		c.complain(path, "is written though it is the default")
	}
	c.value(path, field.Type, field.Repeated, kind, value)
}

// value checks one value of a type, or several that are packed.
func (c *checker) value(path, name string, repeated bool, kind protowire.Type, value []byte) {
	wants := c.wireType(name)
	if repeated && kind == protowire.BytesType && wants != protowire.BytesType {
		return // packed
	}
	if kind != wants {
		c.complain(path, "has the wire type %d and not %d", kind, wants)
		return
	}
	switch {
	case name == "string":
		if text, _ := protowire.ConsumeBytes(value); !utf8.Valid(text) {
			c.complain(path, "is not UTF-8")
		}
	case name == "bool":
		if number, _ := protowire.ConsumeVarint(value); number > 1 {
			c.complain(path, "is neither true nor false")
		}
	case c.table.Enums[name] != nil:
		number, _ := protowire.ConsumeVarint(value)
		if _, known := c.table.Enums[name][int(number)]; !known {
			c.complain(path, "has the value %d, which %s has not", number, name)
		}
	case !c.isScalar(name):
		inner, _ := protowire.ConsumeBytes(value)
		c.message(path, name, inner)
	}
}

// entry checks an entry of a map, which is a message of a key and a value.
func (c *checker) entry(path string, field Field, kind protowire.Type, value []byte) {
	if kind != protowire.BytesType {
		c.complain(path, "has the wire type %d and not that of a map", kind)
		return
	}
	inner, _ := protowire.ConsumeBytes(value)
	for len(inner) > 0 {
		number, kind, length := protowire.ConsumeTag(inner)
		if length < 0 || number > 2 {
			c.complain(path, "has an entry that is none")
			return
		}
		inner = inner[length:]
		if length = protowire.ConsumeFieldValue(number, kind, inner); length < 0 {
			c.complain(path, "has an entry that is cut short")
			return
		}
		c.value(path, field.Map[number-1], false, kind, inner[:length])
		inner = inner[length:]
	}
}

var scalars = map[string]protowire.Type{
	"string": protowire.BytesType, "bytes": protowire.BytesType, "bool": protowire.VarintType,
	"int32": protowire.VarintType, "int64": protowire.VarintType, "uint64": protowire.VarintType,
}

func (c *checker) isScalar(name string) bool {
	_, scalar := scalars[name]
	return scalar || c.table.Enums[name] != nil
}

func (c *checker) wireType(name string) protowire.Type {
	if kind, scalar := scalars[name]; scalar {
		return kind
	}
	if c.table.Enums[name] != nil {
		return protowire.VarintType
	}
	return protowire.BytesType
}

func isZero(kind protowire.Type, value []byte) bool {
	number, _ := protowire.ConsumeVarint(value)
	return number == 0 && (kind == protowire.VarintType || kind == protowire.BytesType)
}
