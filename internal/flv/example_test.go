package flv_test

import (
	"fmt"

	"tunnelcast/internal/flv"
)

func ExampleParseVideo() {
	// A key frame of H.264 whose PTS is 80 ms after its DTS.
	body := []byte{0x17, 1, 0, 0, 80, 0, 0, 0, 1, 0x65}
	m := flv.ParseVideo(body, int64(len(body)))
	fmt.Println(m.Codec, m.Key, m.Delay, body[m.Skip:])
	// Output: H.264 true 80 [0 0 0 1 101]
}
