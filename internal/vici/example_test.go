package vici_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"tunnelcast/internal/vici"
)

func Example() {
	conn, err := net.Dial("unix", "/run/charon.vici")
	if err != nil {
		log.Fatal(err)
	}
	client := vici.NewClient(conn)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	request, err := vici.Encode(vici.Value("ike", "vpn"))
	if err != nil {
		log.Fatal(err)
	}
	err = client.Stream(ctx, "list-sas", "list-sa", request, func(sa vici.Message) error {
		for e, err := range sa.Elements() {
			if err != nil {
				return err
			}
			if e.Kind == vici.KeyValue && e.Depth == 1 && string(e.Key) == "remote-host" {
				fmt.Println(string(e.Value))
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err) // the addresses printed are not all
	}
}

func ExampleEncode() {
	m, err := vici.Encode(vici.Section("home", vici.Value("version", "2"), vici.List("vips", "0.0.0.0", "::")))
	if err != nil {
		log.Fatal(err)
	}
	for e := range m.Elements() {
		fmt.Printf("%d %d %q %q\n", e.Kind, e.Depth, e.Key, e.Value)
	}
	// Output:
	// 1 0 "home" ""
	// 3 1 "version" "2"
	// 4 1 "vips" ""
	// 5 1 "vips" "0.0.0.0"
	// 5 1 "vips" "::"
	// 6 1 "" ""
	// 2 0 "" ""
}
