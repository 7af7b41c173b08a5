// Package vici is a client of VICI, the protocol by which programs control
// strongSwan's IKE daemon, charon (src/libcharon/plugins/vici/README.md of
// strongSwan). It encodes and decodes packets and messages and does not know the
// meaning of any command.
//
// A list is complete or an error: the caller gets every packet that charon sends, and
// a packet that cannot be read ends the call.
//
// This is why the package exists beside strongSwan's own client,
// github.com/strongswan/govici. Session.CallStreaming queues 128 packets there. If
// charon sends faster than the caller reads, further packets are dropped without an
// error, including the response that ends the list (clientConn.dispatch and
// clientConn.listen in vici/client_conn.go of govici v0.8.1). Here, a client that is
// missing from the list of live clients loses its name.
package vici

import "fmt"

// The limits of the wire format, in bytes.
const (
	maxName  = 0xff   // the length of a name is an octet
	maxValue = 0xffff // the length of a value is two octets

	// maxPacket is VICI_MESSAGE_SIZE_MAX in
	// src/libcharon/plugins/vici/vici_socket.h. charon neither sends nor accepts a
	// longer packet. The four octets of the length itself do not count.
	maxPacket = 512 << 10
)

// checkName returns an error for a name that must not be sent. charon does not reply
// at all to a command with a name that is not printable (inbound in vici_dispatcher.c).
//
// Names that are received are not checked. charon 5.9.8 accepts a connection with an
// empty name from any client and then lists it, which must not make the list
// unreadable.
func checkName(name string) error {
	printable := true // as isprint in the C locale: chunk_printable in chunk.c
	for i := range len(name) {
		printable = printable && ' ' <= name[i] && name[i] <= '~'
	}
	if len(name) < 1 || len(name) > maxName || !printable {
		return fmt.Errorf("invalid name %q: VICI requires 1 to %d printable ASCII characters", name, maxName)
	}
	return nil
}
