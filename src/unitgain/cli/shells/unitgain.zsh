#compdef unitgain
# What Tab offers for unitgain in zsh. The program answers a line for each word: the word, a tab, a remark.
_unitgain() {
    local -a lines whole open
    local line word
    lines=("${(@f)$(_UNITGAIN_COMPLETE=zsh ${words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    if [[ $lines[1] == :files ]]; then
        _files
        return
    fi
    for line in $lines; do
        word=${${line%%$'\t'*}//:/\\:}
        [[ $line == *$'\t'* ]] && line="$word:${line#*$'\t'}" || line=$word
        # a word that goes on (gain=, model.py:, folder/) gets no space after it
        [[ $word == *[=:/,] ]] && open+=("$line") || whole+=("$line")
    done
    _describe unitgain whole -- open -S ''
}
if [[ $funcstack[1] == _unitgain ]]; then _unitgain "$@"; else compdef _unitgain unitgain; fi
