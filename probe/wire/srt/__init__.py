"""SRT, the caller's side, without IO (draft-sharabayko-srt-01): datagrams and the time in, datagrams and events out."""
