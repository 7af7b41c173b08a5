// Package vici speaks the client's side of VICI, the protocol by which programs
// control strongSwan's IKE daemon, charon. It is described in
// src/libcharon/plugins/vici/README.md of strongSwan. The package knows packets
// and messages, not what any command means.
//
// A list is returned whole or as an error: every packet that charon sends is
// handed to the caller, and a packet that cannot be read ends the call.
//
// That is why this package exists beside strongSwan's own client,
// github.com/strongswan/govici. Its Session.CallStreaming queues 128 packets.
// When charon sends faster than the caller reads, further packets are dropped
// without an error, including the response that ends the list
// (clientConn.dispatch and clientConn.listen in vici/client_conn.go of govici
// v0.8.1). A list of clients with one missing would remove the name of a live
// client.
package vici

import "fmt"

// The limits of the wire format, in bytes.
const (
	maxName  = 0xff   // the length of a name is an octet
	maxValue = 0xffff // the length of a value is two octets

	// maxPacket is VICI_MESSAGE_SIZE_MAX in
	// src/libcharon/plugins/vici/vici_socket.h. charon neither sends nor accepts
	// more, apart from the length in front.
	maxPacket = 512 << 10
)

// checkName returns an error for a name that charon does not accept. A request of
// such a name gets no reply at all (inbound in vici_dispatcher.c).
//
// Names that are read are not checked like this: the format itself allows them to
// be empty.
func checkName(name string) error {
	printable := true // as isprint in the C locale, which vici_stringify asks
	for i := range len(name) {
		printable = printable && ' ' <= name[i] && name[i] <= '~'
	}
	if len(name) < 1 || len(name) > maxName || !printable {
		return fmt.Errorf("the name %q is not 1 to %d printable ASCII characters, which VICI requires", name, maxName)
	}
	return nil
}
